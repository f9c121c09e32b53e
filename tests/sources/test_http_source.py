"""Every transport keeps the same contract over HTTP, whatever the machine at the other side does."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import threading
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.app import create_app
from api.machines import Machines
from api.server import serve as serve_api
from etl.readings.records import Answer, Failure, Poll
from etl.sources.http_requests import Requests
from etl.sources.http_source import CAP, HttpSource
from tests.support import servers
from tests.support.servers import READING, Server, Talk, answer, chunked, says, says_and_closes

try:
    from etl.sources.http_curl import Curl
except ImportError:  # the extra `fleet` is not installed
    Curl = None

TRANSPORTS = [Requests, Curl] if Curl else [Requests]
DEADLINE = 0.3
"""Seconds for a machine that hangs."""
GRACE = 0.5
"""Seconds after its deadline in which a failure must be delivered."""
PATIENCE = 10.0
SECRET = "s3cret"


class Inbox:
    """Takes what a transport delivers, and notes how long each source took."""

    def __init__(self) -> None:
        self.polls: list[Poll] = []
        self.took: dict[str, float] = {}
        self._began = time.monotonic()
        self._changed = threading.Condition()

    def __call__(self, poll: Poll) -> None:
        with self._changed:
            self.polls.append(poll)
            self.took[poll.source] = time.monotonic() - self._began
            self._changed.notify_all()

    def wait(self, names: Iterable[str], patience: float = PATIENCE) -> None:
        """Wait until these are in."""
        wanted = set(names)
        with self._changed:
            came = self._changed.wait_for(lambda: wanted <= self.took.keys(), patience)
        assert came, f"not delivered: {sorted(wanted - self.took.keys())}"

    def of(self, name: str) -> Poll:
        (poll,) = (poll for poll in self.polls if poll.source == name)
        return poll


def machine(url: str, name: str = "machine", timeout: float = PATIENCE, **more) -> HttpSource:
    return HttpSource(name, url, timeout, more.pop("headers", {}), **more)


def poll_all(transport, names: Iterable[str]) -> Inbox:
    """One poll of each source, delivered."""
    names = list(names)
    inbox = Inbox()
    transport.start(names, inbox)
    inbox.wait(names)
    return inbox


def poll(transport, name: str = "machine") -> Poll:
    return poll_all(transport, [name]).of(name)


def headers_of(request: bytes) -> dict[str, str]:
    lines = request.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def held() -> tuple[int, int]:
    """How many threads and descriptors this process has."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """An environment without proxies, certificates and logins of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def nothing_left():
    """After the test, once its servers and transports are closed, no thread and no descriptor is left."""
    threads, descriptors = held()
    yield
    deadline = time.monotonic() + 5
    while (now := held())[0] > threads or now[1] > descriptors:
        assert time.monotonic() < deadline, f"{now} threads and descriptors, not {(threads, descriptors)}"
        time.sleep(0.005)


@pytest.fixture
def serve(nothing_left):
    """Start servers, which are closed when the test ends."""
    with ExitStack() as stack:

        def start(talk: Talk | None, **how) -> Server:
            server = Server(talk, **how)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
def make(request, serve):
    """Make transports of each kind, which are closed when the test ends."""
    with ExitStack() as stack:

        def build(*sources: HttpSource):
            transport = request.param(sources, time.time)
            stack.callback(transport.close)
            return transport

        yield build


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("the openssl command makes the certificates, and is not installed")
    return servers.make_certificates(tmp_path_factory.mktemp("certificates"))


# A machine that answers


def test_a_reading_is_delivered_as_it_was_sent(make, serve):
    """A good answer is delivered byte for byte, with the moment it was complete."""
    before = time.time()
    delivered = poll(make(machine(serve(servers.good).url)))
    assert delivered == Poll("machine", delivered.at, (Answer(READING),))
    assert before <= delivered.at <= time.time()


@pytest.fixture(scope="module")
def simulated() -> str:
    """The address of the simulated machine, served as it is in production."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    serve_api(create_app(Machines(1)), "127.0.0.1", port)
    return f"http://127.0.0.1:{port}/data"


def test_the_simulated_machine_is_a_source(simulated, make):
    """The Flask API's /data gives readings, also over a connection that is used again."""
    transport = make(machine(simulated))
    for _ in range(3):
        assert b'"temperature":' in poll(transport).answers[0].body


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(servers.gzipped(), headers="Content-Encoding: gzip\r\n"), id="gzip"),
        pytest.param(answer(zlib.compress(READING), headers="Content-Encoding: deflate\r\n"), id="deflate"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(READING[:9], READING[9:]), id="chunked"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
            + chunked(servers.gzipped()[:20], servers.gzipped()[20:]),
            id="chunked gzip",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), id="100 first"),
        pytest.param(answer(status="203 Non-Authoritative Information"), id="203"),
        pytest.param(answer(headers="X-Odd: \xe9\r\nSet-Cookie: ;;=\r\n"), id="odd headers"),
    ],
)
def test_answers_come_in_many_forms(make, serve, data):
    """Compressed, chunked and oddly headed answers are readings like any other, twice in a row."""
    transport = make(machine(serve(says(data)).url))
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 200\r\n\r\n"])
def test_an_answer_may_end_with_its_connection(make, serve, head):
    """A body without a length ends where the machine closes the connection."""
    transport = make(machine(serve(says_and_closes(head + READING)).url))
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


@pytest.mark.parametrize("data", [answer(b""), b"HTTP/1.1 204 No Content\r\n\r\n"], ids=["empty", "204"])
def test_an_empty_answer_is_an_answer(make, serve, data):
    """An empty body is passed on: what it is worth is not the transport's business."""
    assert poll(make(machine(serve(says(data)).url))).answers == (Answer(b""),)


def test_a_body_just_below_the_cap(make, serve):
    """A body of exactly the largest size is passed on."""
    body = b"7" * CAP
    assert poll(make(machine(serve(says(answer(body))).url))).answers == (Answer(body),)


def test_ipv6(make, serve):
    """A machine may have an IPv6 address."""
    try:
        server = serve(servers.good, host="::1")
    except OSError:
        pytest.skip("this system has no IPv6 loopback address")
    assert poll(make(machine(server.url))).answers == (Answer(READING),)


def test_a_name_instead_of_an_address(make, serve):
    """A machine may have a name."""
    server = serve(servers.good)
    assert poll(make(machine(server.url.replace("127.0.0.1", "localhost")))).answers == (Answer(READING),)


# What is sent


def request_of(make, server: Server, url: str = "", **more) -> dict[str, str]:
    """The headers of one poll of a server that answers."""
    assert poll(make(machine(url or server.url, **more))).failure is None
    return headers_of(server.requests[-1])


def test_what_every_request_says(make, serve):
    """A request is a plain GET that says who asks, and what for."""
    server = serve(servers.good)
    sent = request_of(make, server)
    assert server.requests[0].startswith(b"GET /data HTTP/1.1\r\n")
    assert sent["host"] == server.netloc
    assert "machine-telemetry-etl" in sent["user-agent"]
    assert "json" in sent["accept"]
    assert {coding.strip() for coding in sent["accept-encoding"].split(",")} == {"gzip", "deflate"}
    assert "authorization" not in sent


def test_headers_of_the_config_are_sent(make, serve):
    """Headers of the source are sent, and replace those that would be sent anyway."""
    sent = request_of(make, serve(servers.good), headers={"X-Key": SECRET, "user-agent": "Łódź 7"})
    assert (sent["x-key"], sent["user-agent"].encode("latin-1").decode()) == (SECRET, "Łódź 7")


@pytest.mark.parametrize(
    ("login", "sent"), [("user:pass", "user:pass"), ("us%40er:p%3Ass", "us@er:p:ss"), ("user", "user:"), ("ł:ß", "ł:ß")]
)
def test_basic_auth_from_the_url(make, serve, login, sent):
    """A login in the URL is sent as basic auth, as UTF-8."""
    server = serve(servers.good)
    headers = request_of(make, server, server.url.replace("://", f"://{login}@"))
    assert headers["authorization"] == "Basic " + base64.b64encode(sent.encode()).decode()
    assert headers["host"] == server.netloc


def test_netrc_is_not_used(make, serve, tmp_path, monkeypatch):
    """A .netrc with a login for this machine changes nothing."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password pass\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # so that the environment is looked at
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert "authorization" not in request_of(make, serve(servers.good))


def test_cookies_are_not_kept(make, serve):
    """What a machine wants to be remembered is not sent back, by no source."""
    server = serve(says(answer(headers="Set-Cookie: a=b; Path=/\r\n")))
    transport = make(machine(server.url, "one"), machine(server.url, "two"))
    for name in ("one", "one", "two"):
        poll(transport, name)
    assert not [request for request in server.requests if "cookie" in headers_of(request)]


# Connections


def test_a_connection_is_used_again(make, serve):
    """Ten polls of a machine need one connection."""
    server = serve(servers.good)
    transport = make(machine(server.url))
    for _ in range(10):
        poll(transport)
    assert (server.connections, len(server.requests)) == (1, 10)


def test_many_sources_on_one_address_share_connections(make, serve):
    """Two hundred sources on one address are read over at most half as many connections, in two rounds."""
    names = [f"machine-{n}" for n in range(200)]

    def connections() -> int:
        server = serve(servers.good)
        transport = make(*(machine(f"{server.url}?{name}", name) for name in names))
        for _ in range(2):
            assert all(delivered.answers for delivered in poll_all(transport, names).polls)
        assert len(server.requests) == 400
        return server.connections

    assert any(connections() <= 100 for _ in range(3))  # other processes may take the processor away once or twice


@pytest.mark.parametrize("leave", [lambda connection: None, servers.Connection.reset], ids=["closes", "resets"])
def test_a_kept_connection_closed_just_as_it_is_used_again(make, serve, leave):
    """A machine that closes a kept connection when the next request comes is asked anew, and gives a reading."""
    server = serve(servers.leaves_at_second_request(leave))
    transport = make(machine(server.url))
    assert [poll(transport).answers for _ in range(3)] == [(Answer(READING),)] * 3
    assert server.connections == 3


def test_many_kept_connections_closed_just_as_they_are_used_again(make, serve):
    """A gateway that closes every kept connection at its second request costs none of its machines a poll."""
    server = serve(servers.leaves_at_second_request(lambda connection: None))
    names = [f"machine-{n}" for n in range(60)]
    transport = make(*(machine(f"{server.url}?{name}", name) for name in names))
    for _ in range(4):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)


def test_a_kept_connection_closed_meanwhile(make, serve):
    """A machine that closes its connections between two polls gives a reading each time."""
    server = serve(says_and_closes(answer()))
    transport = make(machine(server.url))
    for _ in range(5):
        assert poll(transport).answers == (Answer(READING),)
    assert server.connections == len(server.requests) == 5


def test_a_new_connection_that_breaks_off_is_not_tried_again(make, serve):
    """A machine that closes a new connection without an answer is asked once."""
    server = serve(servers.breaks_off())
    assert poll(make(machine(server.url))).failure.reason == "reset"
    assert server.connections == 1


def test_what_follows_an_answer_is_no_answer(make, serve):
    """Bytes that come uninvited after an answer are not taken for the next one."""
    stray = answer(b'{"id":"stray"}')
    server = serve(says(answer() + stray))
    transport = make(machine(server.url))
    assert poll(transport).answers == (Answer(READING),)
    assert poll(transport).answers == (Answer(READING),)


# Proxies


def test_a_proxy_from_the_environment(make, serve, monkeypatch):
    """Plain HTTP goes through `http_proxy`, with the proxy's own login."""
    proxy = serve(servers.proxies)
    monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:pass@"))
    assert poll(make(machine("http://machine.example/data?a=b"))).answers == (Answer(b'{"id":"through the proxy"}'),)
    assert proxy.requests[0].startswith(b"GET http://machine.example/data?a=b HTTP/1.1\r\n")
    assert headers_of(proxy.requests[0])["proxy-authorization"] == "Basic dXNlcjpwYXNz"


def test_no_proxy(make, serve, monkeypatch):
    """Hosts of `no_proxy` are asked directly."""
    proxy, server = serve(servers.proxies), serve(servers.good)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert poll(make(machine(server.url))).answers == (Answer(READING),)
    assert not proxy.connections


def test_many_sources_share_connections_to_the_proxy(make, serve, monkeypatch):
    """A hundred machines behind a proxy are read over few connections to it."""
    proxy = serve(servers.proxies)
    monkeypatch.setenv("http_proxy", proxy.url)
    names = [f"machine-{n}" for n in range(100)]
    transport = make(*(machine(f"http://{name}.example/data", name) for name in names))
    for _ in range(2):
        assert all(delivered.answers for delivered in poll_all(transport, names).polls)
    assert proxy.connections <= 50


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
    """A proxy that cannot be reached is told as such; the machine is not asked directly."""
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{SECRET}@127.0.0.1:{unused_port()}")
    failure = poll(make(machine(f"{scheme}://127.0.0.1:1/data"))).failure
    assert failure.reason == "proxy"
    assert SECRET not in failure.why


def test_a_proxy_that_refuses(make, serve, monkeypatch):
    """A proxy that opens no tunnel is told as such."""
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
    """The deadline holds for a proxy, and for what is behind it."""
    monkeypatch.setenv("https_proxy", serve(talk).url)
    inbox = poll_all(make(machine("https://machine.example/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"
    assert inbox.took["machine"] < DEADLINE + GRACE


# TLS


def test_ca_file(make, serve, certificates):
    """A certificate signed by the authority in `ca_file` is trusted, and its connection is used again."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    transport = make(machine(server.url, ca_file=str(certificates.ca)))
    assert [poll(transport).answers for _ in range(3)] == [(Answer(READING),)] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    ("certificate", "word"), [("self_signed", "self"), ("wrong_host", "match"), ("expired", "expired")]
)
def test_a_bad_certificate(make, serve, certificates, certificate, word):
    """A certificate that does not hold fails the poll before anything is sent, and the failure says why."""
    server = serve(servers.good, tls=servers.tls(getattr(certificates, certificate)))
    failure = poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure
    assert failure.reason == "tls"
    assert word in failure.why
    assert not server.requests


def test_an_unknown_authority(make, serve, certificates):
    """Without `ca_file`, a certificate of one's own authority is not trusted."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    assert poll(make(machine(server.url))).failure.reason == "tls"
    assert not server.requests


def test_authorities_of_one_source_hold_for_it_alone(make, serve, certificates):
    """What one source trusts, another source on the same address does not."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    trusting = machine(server.url, "trusting", ca_file=str(certificates.ca))
    transport = make(trusting, machine(server.url, "strange"))
    assert poll(transport, "trusting").answers
    assert poll(transport, "strange").failure.reason == "tls"


@pytest.mark.parametrize("content", [None, "no certificate\n"], ids=["missing", "garbage"])
def test_a_bad_ca_file(make, serve, certificates, tmp_path, content):
    """A `ca_file` that cannot be read fails the poll: there is no fall-back."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    if content:
        (tmp_path / "ca.crt").write_text(content)
    failure = poll(make(machine(server.url, ca_file=str(tmp_path / "ca.crt")))).failure
    assert failure.reason == "tls"
    assert "ca_file" in failure.why
    assert not server.requests


def test_old_tls(make, serve, certificates):
    """A machine that speaks TLS 1.0 only is refused."""
    context = servers.tls(certificates.good)
    try:
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
    except (ValueError, ssl.SSLError):
        pytest.skip("this OpenSSL speaks no TLS 1.0")
    server = serve(servers.good, tls=context)
    assert poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure.reason in ("tls", "reset")
    assert not server.requests


def test_plain_http_where_tls_is_expected(make, serve):
    """A machine that answers in the clear where TLS is configured is refused."""
    server = serve(servers.blurts(answer()), scheme="https")
    assert poll(make(machine(server.url))).failure.reason == "tls"


def test_tls_cut_in_the_middle(make, serve, certificates):
    """An answer that breaks off inside TLS is no answer."""
    server = serve(says_and_closes(answer(length=1000)), tls=servers.tls(certificates.good))
    assert poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure.reason == "reset"


# Machines that hang


class Fault(NamedTuple):
    """What a machine does, and the codes of the failure that may follow."""

    talk: Talk | None
    reasons: str
    scheme: str = "http"
    headers: dict[str, str] = {}  # noqa: RUF012  never changed


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HANGS = {
    "never accepts": Fault(None, "timeout"),
    "never answers": Fault(servers.waits, "timeout"),
    "never reads a large request": Fault(None, "timeout", headers={"X-Large": "x" * (6 << 20)}),
    "never finishes the TLS handshake": Fault(servers.waits, "timeout", "https"),
    "drips the TLS handshake": Fault(servers.drips(b"", b"\x16\x03\x03\x40\x00" + bytes(100)), "timeout", "https"),
    "stops in its status line": Fault(says(b"HTTP/1.1 2"), "timeout"),
    "drips its headers": Fault(servers.drips(b"", answer()), "timeout"),
    "drips its body": Fault(servers.drips(HEAD), "timeout"),
    "drips chunks": Fault(servers.drips(CHUNKED, chunked(*[b"x"] * 100)), "timeout"),
    "drips gzip": Fault(servers.drips(HEAD[:-2] + b"Content-Encoding: gzip\r\n\r\n", servers.gzipped()), "timeout"),
    "drips without an end": Fault(servers.drips(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 100), "timeout"),
    "stops before a body without an end": Fault(says(b"HTTP/1.0 200 OK\r\n\r\n"), "timeout"),
    "stops in its body": Fault(says(HEAD + READING), "timeout"),
}


def open_all(kind, faults: dict[str, Fault], stack: ExitStack, timeout: float):
    """A transport of this kind, and a server for each of its sources."""
    sources = []
    for name, fault in faults.items():
        server = Server(fault.talk, scheme=fault.scheme)
        stack.callback(server.close)
        url = server.url.replace("://", f"://user:{SECRET}@") + f"?token={SECRET}"
        sources.append(HttpSource(name, url, timeout, fault.headers))
    transport = kind(sources, time.time)
    stack.callback(transport.close)
    return transport


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.__name__)
def hanging(request):
    """One poll of every machine that hangs, all at the same time."""
    with ExitStack() as stack:
        return poll_all(open_all(request.param, HANGS, stack, DEADLINE), HANGS)


@pytest.mark.parametrize("name", HANGS)
def test_a_machine_that_hangs(hanging, name):
    """A machine that keeps a poll waiting costs a failure at its deadline, and not before."""
    if name == "never reads a large request" and hanging.of(name).failure.reason == "protocol":
        pytest.skip("libcurl sends no request of this size at all")
    assert hanging.of(name).failure == Failure("timeout", f"no answer within {DEADLINE} s")
    assert DEADLINE <= hanging.took[name] < DEADLINE + GRACE


def test_a_machine_whose_queue_is_full(make):
    """A connection that is neither taken nor refused fails at its deadline."""
    with servers.deaf() as port:
        inbox = poll_all(make(machine(f"http://127.0.0.1:{port}/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"
    assert inbox.took["machine"] < DEADLINE + GRACE


# Machines that send garbage


LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
FAULTS = {
    "500": Fault(says(answer(status="500 Internal Server Error")), "http_status"),
    "502": Fault(says(answer(status="502 Bad Gateway")), "http_status"),
    "429": Fault(says(answer(status="429 Too Many Requests", headers="Retry-After: 3600\r\n")), "http_status"),
    "404": Fault(says(answer(status="404 Not Found")), "http_status"),
    "401": Fault(says(answer(status="401 Unauthorized", headers="WWW-Authenticate: Basic\r\n")), "http_status"),
    "304": Fault(says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "http_status"),
    "an unknown status": Fault(says(answer(status="599 What")), "http_status"),
    "a redirect without a target": Fault(says(answer(status="302 Found")), "redirect"),
    "an endless error": Fault(servers.floods(b"HTTP/1.1 500 No\r\n\r\n", bytes(1 << 16)), "http_status"),
    "an endless redirect": Fault(
        servers.floods(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", bytes(1 << 16)), "redirect"
    ),
    "closes": Fault(lambda connection: None, "reset"),
    "resets": Fault(servers.breaks_off(), "reset"),
    "closes after the request": Fault(says_and_closes(b""), "reset"),
    "breaks off in the head": Fault(servers.breaks_off(HEAD[:20]), "reset"),
    "breaks off in the body": Fault(servers.breaks_off(HEAD + READING), "reset"),
    "ends in the body": Fault(says_and_closes(HEAD + READING), "reset"),
    "ends in a chunk": Fault(says_and_closes(CHUNKED + b"ff\r\n" + READING), "reset"),
    "ends between chunks": Fault(says_and_closes(CHUNKED + chunked(READING, end=b"")), "reset protocol"),
    "a large body": Fault(servers.floods(LARGE, bytes(1 << 16), 1 << 14), "too_large"),
    "an endless body": Fault(servers.floods(b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 16)), "too_large"),
    "endless chunks": Fault(servers.floods(CHUNKED, chunked(bytes(1 << 16), end=b"")), "too_large"),
    "a body just above the cap": Fault(says(answer(bytes(CAP + 1))), "too_large"),
    "a gzip bomb": Fault(says(answer(servers.gzip_bomb(100), headers="Content-Encoding: gzip\r\n")), "too_large"),
    "a chunk of negative size": Fault(servers.floods(CHUNKED + b"-1\r\n", bytes(1 << 16)), "too_large protocol"),
    "a chunk without a size": Fault(servers.floods(CHUNKED + b"what\r\n", bytes(1 << 16), 1), "reset protocol"),
    "endless trailers": Fault(servers.floods(CHUNKED + b"0\r\n", b"X: y\r\n" * 999), "too_large protocol"),
    "endless headers": Fault(servers.floods(HEAD[:-2], b"X: y\r\n" * 999), "too_large protocol"),
    "an endless header": Fault(servers.floods(HEAD[:-2] + b"X: ", b"x" * (1 << 16)), "too_large protocol"),
    "an endless status line": Fault(servers.floods(b"HTTP/1.1 200 ", b"x" * (1 << 16)), "too_large protocol"),
    "100 for ever": Fault(servers.floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), "too_large protocol"),
    "broken gzip": Fault(says(answer(b"\x1f\x8b" + READING, headers="Content-Encoding: gzip\r\n")), "encoding"),
    "text for gzip": Fault(says(answer(READING, headers="Content-Encoding: gzip\r\n")), "encoding"),
    "six codings": Fault(says(answer(headers="Content-Encoding: " + ", ".join(["gzip"] * 6) + "\r\n")), "encoding"),
    "a garbage status line": Fault(says(b"what is this\r\n\r\n"), "protocol"),
    "a garbage status": Fault(says_and_closes(b"HTTP/1.1 abc OK\r\n\r\n"), "protocol"),
    "SSH": Fault(says(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
    "noise": Fault(servers.blurts(bytes(range(256)) * 99), "protocol"),
    "two lengths": Fault(says(answer(headers="Content-Length: 7\r\n")), "protocol"),
    "TLS, and the other side does not speak it": Fault(servers.blurts(b"\x15\x03\x01\x00\x02\x02\x46"), "protocol"),
    "no TLS, where it is expected": Fault(servers.blurts(answer()), "tls", "https"),
}


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.__name__)
def garbage(request):
    """One poll of every machine that sends garbage, all at the same time."""
    with ExitStack() as stack:
        return poll_all(open_all(request.param, FAULTS, stack, PATIENCE), FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_machine_that_sends_garbage(garbage, name):
    """What is no proper answer is a failure with a code, long before the deadline."""
    assert garbage.of(name).failure.reason in FAULTS[name].reasons.split()
    assert garbage.took[name] < PATIENCE / 2


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_is_put_in_a_short_plain_sentence(garbage, name):
    """Why a poll failed is a sentence without the URL and the secrets it may hold."""
    why = garbage.of(name).failure.why
    assert 5 < len(why) < 100
    assert why.isprintable()
    for inside in (SECRET, "://", "127.0.0.1", "None", "(", "urllib3"):
        assert inside not in why


def test_what_failures_say(garbage):
    """The sentences name what an engineer needs."""
    assert garbage.of("502").failure.why == "HTTP 502 Bad Gateway"
    assert garbage.of("an unknown status").failure.why == "HTTP 599"
    assert garbage.of("a redirect without a target").failure.why == "HTTP 302: redirects are not followed"
    assert garbage.of("a large body").failure.why == "the answer is larger than 5 MiB"
    assert garbage.of("resets").failure.why == "the connection broke off"


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_refused(make):
    """A machine that is off refuses."""
    failure = poll(make(machine(f"http://127.0.0.1:{unused_port()}/data"))).failure
    assert failure == Failure("refused", "connection refused")


def test_a_name_that_cannot_be_resolved(make):
    """A name that no resolver can know is told as such."""
    failure = poll(make(machine(f"http://{'a' * 64}.example/data"))).failure
    assert failure == Failure("dns", "the host's name cannot be resolved")


def test_a_name_that_does_not_exist(make):
    """A name that does not exist is told as such, unless the resolver is too slow to say so."""
    failure = poll(make(machine("http://machine.invalid/data", timeout=DEADLINE))).failure
    assert failure.reason in ("dns", "timeout")


@pytest.mark.parametrize(
    "target", ["itself", "another", "file:///etc/hostname", "http://169.254.169.254/", "//[", "\xff"]
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(make, serve, status, target):
    """A redirect is a failure: nobody else is asked, and so nobody else gets the login."""
    another = serve(servers.good)
    location = {"another": another.url, "itself": "/data"}.get(target, target)
    server = serve(says(answer(status=status, headers=f"Location: {location}\r\n")))
    transport = make(machine(server.url.replace("://", f"://user:{SECRET}@")))
    assert poll(transport).failure.reason == "redirect"
    assert len(server.requests) == 1
    assert not another.connections


@pytest.mark.parametrize("name", ["a large body", "endless chunks", "a gzip bomb", "a chunk of negative size",
                                  "an endless error", "an endless redirect", "an endless header"])  # fmt: skip
def test_memory_stays_small(make, serve, name):
    """A flood costs no more memory than what it is cut off at, a few times over."""
    source = machine(serve(FAULTS[name].talk).url)
    poll(make(source))
    transport = make(source)
    before, peak = reset_peak(), poll(transport) and peak_memory()
    assert peak - before < 20 << 20


def reset_peak() -> int:
    """The memory in use, from which on the peak is measured."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not measure peaks of memory")
    return memory("VmRSS")


def peak_memory() -> int:
    return memory("VmHWM")


def memory(kind: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) << 10


# Many machines


@pytest.mark.parametrize(
    ("count", "bad"),
    [(200, "never accepts"), (200, "never finishes the TLS handshake"),
     *((20, bad) for bad in ("never answers", "never finishes the TLS handshake", "resets", "502", "a gzip bomb"))],
)  # fmt: skip
def test_bad_machines_delay_no_other(make, serve, count, bad):
    """Twenty good machines behind many bad ones are read within a quarter of a second."""
    fault = FAULTS.get(bad) or HANGS[bad]
    server = serve(fault.talk if count == 20 else None, scheme=fault.scheme)
    good = serve(servers.good)
    bad_names, good_names = [f"bad-{n}" for n in range(count)], [f"good-{n}" for n in range(20)]

    transport = make(
        *(machine(server.url, name, timeout=0.5) for name in bad_names),
        *(machine(good.url, name) for name in good_names),
    )

    def lateness() -> float:
        inbox = poll_all(transport, bad_names + good_names)
        return max(inbox.took[name] for name in good_names)

    assert any(lateness() < 0.25 for _ in range(3))  # other processes may take the processor away once or twice


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(started=st.lists(st.sampled_from([*HANGS, *FAULTS]), min_size=1, max_size=40))
def test_each_source_is_delivered_once(everything, started):
    """Whatever machines do, each poll that was started is delivered exactly once."""
    transport, inbox = everything, Inbox()
    for name in started:
        transport.start([name], inbox)
    deadline = time.monotonic() + PATIENCE
    while len(inbox.polls) < len(started) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert Counter(delivered.source for delivered in inbox.polls) == Counter(started)
    assert all(delivered.failure for delivered in inbox.polls)


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
def everything(request, nothing_left):
    """A transport over every machine that hangs or sends garbage."""
    with ExitStack() as stack:
        yield open_all(request.param, HANGS | FAULTS, stack, DEADLINE)


# The end


def test_closing_cuts_off_what_is_in_flight(make, serve):
    """Polls in flight when a transport is closed are delivered at once, as cut off."""
    names = list(HANGS)
    urls = {name: serve(HANGS[name].talk, scheme=HANGS[name].scheme).url for name in names}
    transport = make(*(machine(url, name, timeout=30) for name, url in urls.items()))
    inbox = Inbox()
    transport.start(names, inbox)
    time.sleep(0.1)  # until each is where it hangs
    transport.close()
    inbox.wait(names, GRACE)
    assert {delivered.failure.reason for delivered in inbox.polls} == {"closed"}


def test_nothing_is_polled_once_closed(make, serve):
    """A poll that is started after closing is delivered as cut off, and asks nobody."""
    server = serve(servers.good)
    transport = make(machine(server.url))
    transport.close()
    assert poll(transport).failure.reason == "closed"
    assert not server.connections


def test_closing_twice(make, serve):
    """Closing again does nothing."""
    transport = make(machine(serve(servers.good).url))
    poll(transport)
    transport.close()
    transport.close()


# What is particular to one transport


@pytest.fixture
def resolving(monkeypatch):
    """Let a name resolve to these ports of 127.0.0.1; without any, the resolver hangs until the test ends."""
    real, end = socket.getaddrinfo, threading.Event()

    def resolve(*ports: int) -> None:
        def getaddrinfo(host, port, *args, flags: int = 0, **how):
            if host != "machine.example" or flags & socket.AI_NUMERICHOST:
                return real(host, port, *args, flags=flags, **how)
            if not ports:
                end.wait(PATIENCE)
            return [entry for port in ports for entry in real("127.0.0.1", port, *args, **how)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    yield resolve
    end.set()


@pytest.fixture
def make_requests(serve):
    """Make transports over requests, which resolves names by socket.getaddrinfo."""
    with ExitStack() as stack:

        def build(*sources: HttpSource) -> Requests:
            transport = Requests(sources, time.time)
            stack.callback(transport.close)
            return transport

        yield build


@pytest.mark.parametrize("addresses", [0, 1, 5])
def test_the_deadline_holds_over_names_and_addresses(make_requests, resolving, addresses):
    """A resolver that hangs, or several addresses that all hang, cost one deadline."""
    with servers.deaf() as port:
        resolving(*[port] * addresses)
        inbox = poll_all(make_requests(machine("http://machine.example/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"
    assert inbox.took["machine"] < DEADLINE + GRACE


def test_an_address_that_hangs_does_not_hide_the_next(make_requests, resolving, serve):
    """A machine with one dead address of two is read over the other."""
    server = serve(servers.good)
    with servers.deaf() as port:
        resolving(port, unused_port(), server.port)
        assert poll(make_requests(machine("http://machine.example/data", timeout=1.0))).answers == (Answer(READING),)


def test_tls_to_the_proxy(make_requests, serve, certificates, monkeypatch):
    """A proxy may itself be reached over TLS, and the deadline holds there as well."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.ca))
    context = servers.tls(certificates.good)
    server, drips = serve(servers.good, tls=context), serve(servers.drips(b"", answer()), tls=context)
    monkeypatch.setenv("https_proxy", serve(servers.proxies, tls=context).url.replace("http:", "https:"))
    transport = make_requests(machine(server.url, "good"), machine(drips.url, "drips", timeout=DEADLINE))
    inbox = poll_all(transport, ["good", "drips"])
    assert inbox.of("good").answers == (Answer(READING),)
    assert inbox.of("drips").failure.reason == "timeout"
    assert inbox.took["drips"] < DEADLINE + GRACE


@pytest.mark.parametrize("odd", [{"url": "http://*.example/"}, {"headers": {"X": "a\r\nb: c"}}], ids=["url", "header"])
def test_a_source_that_cannot_be_requested(make_requests, odd):
    """A source that no request can be made of costs its own polls only."""
    failure = poll(make_requests(machine(**({"url": "http://127.0.0.1/"} | odd)))).failure
    assert failure.reason == "failed"
