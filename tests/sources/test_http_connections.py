"""Connections are kept, shared, replaced when a machine closed them, and go through proxies."""

from __future__ import annotations

import threading

import pytest

from etl.readings.records import Answer
from tests.support import servers
from tests.support.http_sources import (
    CHUNKED,
    DEADLINE,
    PATIENCE,
    SECRET,
    headers_of,
    machine,
    poll,
    poll_all,
    unused_port,
)
from tests.support.servers import READING, answer, says, says_and_closes


def test_a_connection_is_used_again(make, serve):
    """Ten polls of a machine need one connection."""
    server = serve(servers.good)
    transport = make(machine(server.url))
    for _ in range(10):
        poll(transport)
    assert (server.connections, len(server.requests)) == (1, 10)


def test_many_sources_on_one_address_share_connections(make, serve, never_slow):
    """Two hundred sources on one address are read over few connections, in two rounds."""
    names = [f"machine-{n}" for n in range(200)]
    server = serve(servers.good)
    transport = make(*(machine(f"{server.url}?{name}", name) for name in names))
    for _ in range(2):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)
    assert len(server.requests) == 400
    assert server.connections <= 2 * never_slow


@pytest.mark.parametrize("leave", [lambda connection: None, servers.Connection.reset], ids=["closes", "resets"])
def test_a_kept_connection_closed_just_as_it_is_used_again(make, serve, leave):
    """A machine that closes a kept connection when the next request comes is polled again over another connection."""
    server = serve(servers.leaves_at_second_request(leave))
    transport = make(machine(server.url))
    assert [poll(transport).answers for _ in range(3)] == [(Answer(READING),)] * 3
    assert server.connections == 3


def test_many_kept_connections_closed_just_as_they_are_used_again(make, serve):
    """A gateway that closes every kept connection at its second request fails no poll of its machines."""
    server = serve(servers.leaves_at_second_request(lambda connection: None))
    names = [f"machine-{n}" for n in range(60)]
    transport = make(*(machine(f"{server.url}?{name}", name) for name in names))
    for _ in range(4):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)


def test_a_kept_connection_closed_meanwhile(make, serve):
    """A machine that closes its connection after each answer is read at each poll."""
    server = serve(says_and_closes(answer()))
    transport = make(machine(server.url))
    for _ in range(5):
        assert poll(transport).answers == (Answer(READING),)
    assert server.connections == len(server.requests) == 5


def test_a_new_connection_that_breaks_off_is_not_tried_again(make, serve):
    """A machine that closes a new connection without an answer gets no second request."""
    server = serve(servers.breaks_off())
    assert poll(make(machine(server.url))).failure.reason == "reset"
    assert server.connections == 1


def test_what_follows_an_answer_is_no_answer(make, serve):
    """Bytes that follow an answer are not read as the next answer."""
    stray = answer(b'{"id":"stray"}')
    server = serve(says(answer() + stray))
    transport = make(machine(server.url))
    assert poll(transport).answers == (Answer(READING),)
    assert poll(transport).answers == (Answer(READING),)


def test_what_is_sent_between_two_polls_is_no_answer(make, serve):
    """What a machine sends without being asked, after its answer, is not read as the next answer."""
    polled, sent = threading.Event(), threading.Event()

    def talk(connection):
        for number, _ in enumerate(connection.requests()):
            connection.send(answer())
            if not number and not sent.is_set():
                polled.wait(PATIENCE)
                connection.send(answer(b'{"id":"stray"}'))
                sent.set()

    transport = make(machine(serve(talk).url))
    assert poll(transport).answers == (Answer(READING),)
    polled.set()
    assert sent.wait(PATIENCE)
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


def test_a_kept_connection_whose_next_answer_is_broken(make, serve):
    """A poll whose answer has begun is not repeated on another connection."""
    server = serve(servers.leaves_at_second_request(lambda connection: connection.send(CHUNKED + b"no size\r\n")))
    transport = make(machine(server.url))
    assert [bool(poll(transport).answers) for _ in range(4)] == [True, False, True, False]
    assert server.connections == 2


# Proxies


def test_a_proxy_from_the_environment(make, serve, monkeypatch):
    """Plain HTTP goes through `http_proxy`, with the proxy's own login."""
    proxy = serve(servers.proxies)
    monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:pass@"))
    assert poll(make(machine("http://machine.example/data?a=b"))).answers == (Answer(b'{"id":"through the proxy"}'),)
    assert proxy.requests[0].startswith(b"GET http://machine.example/data?a=b HTTP/1.1\r\n")
    assert headers_of(proxy.requests[0])["proxy-authorization"] == "Basic dXNlcjpwYXNz"


def test_no_proxy(make, serve, monkeypatch):
    """Hosts in `no_proxy` are polled directly."""
    proxy, server = serve(servers.proxies), serve(servers.good)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert poll(make(machine(server.url))).answers == (Answer(READING),)
    assert not proxy.connections


def test_many_sources_share_connections_to_the_proxy(make, serve, monkeypatch, never_slow):
    """Two hundred machines behind a proxy are read over few connections to it."""
    proxy = serve(servers.proxies)
    monkeypatch.setenv("http_proxy", proxy.url)
    names = [f"machine-{n}" for n in range(200)]
    transport = make(*(machine(f"http://{name}.example/data", name) for name in names))
    for _ in range(2):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)
    assert proxy.connections <= 2 * never_slow


def test_tls_through_a_proxy(make, serve, certificates, monkeypatch):
    """TLS goes through the proxy's tunnel to the machine, whose login the proxy does not see."""
    proxy, server = serve(servers.proxies), serve(servers.good, tls=servers.tls(certificates.good))
    monkeypatch.setenv("https_proxy", proxy.url)
    names = ["one", "two", "three"]
    url = server.url.replace("://", f"://user:{SECRET}@")
    transport = make(*(machine(url, name, ca_file=str(certificates.ca)) for name in names))
    for _ in range(2):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)
    assert all(request.startswith(f"CONNECT {server.netloc} HTTP/1.".encode()) for request in proxy.requests)
    assert "authorization" not in headers_of(proxy.requests[0])
    assert "authorization" in headers_of(server.requests[0])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(make, monkeypatch, scheme):
    """An unreachable proxy is a failure of its own; the machine is not polled directly."""
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{SECRET}@127.0.0.1:{unused_port()}")
    failure = poll(make(machine(f"{scheme}://127.0.0.1:1/data"))).failure
    assert failure.reason == "proxy"
    assert SECRET not in failure.why


def test_a_proxy_that_refuses(make, serve, monkeypatch):
    """A proxy that refuses the tunnel is a failure of its own."""
    monkeypatch.setenv("https_proxy", serve(says_and_closes(answer(status="403 Forbidden"))).url)
    assert poll(make(machine("https://machine.example/data"))).failure.reason == "proxy"


@pytest.mark.parametrize(
    "talk",
    [
        pytest.param(servers.waits, id="hangs"),
        pytest.param(servers.drips(b"", b"HTTP/1.1 200 OK\r\n\r\n"), id="drips"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\n\r\n"), id="the tunnel hangs"),
    ],
)
def test_a_proxy_that_hangs(make, serve, monkeypatch, talk):
    """The deadline covers a proxy and the machine behind it."""
    monkeypatch.setenv("https_proxy", serve(talk).url)
    inbox = poll_all(make(machine("https://machine.example/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"


def test_tls_to_the_proxy(make, serve, certificates, monkeypatch):
    """A proxy may speak TLS itself, and the deadline covers it as well."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    context = servers.tls(certificates.good)
    server, drips = serve(servers.good, tls=context), serve(servers.drips(b"", answer()), tls=context)
    monkeypatch.setenv("https_proxy", serve(servers.proxies, tls=context).url.replace("http:", "https:"))
    transport = make(machine(server.url, "good"), machine(drips.url, "drips", timeout=DEADLINE))
    inbox = poll_all(transport, ["good", "drips"])
    assert inbox.of("good").answers == (Answer(READING),)
    assert inbox.of("drips").failure.reason == "timeout"
