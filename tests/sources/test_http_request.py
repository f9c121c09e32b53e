"""Every HTTP transport sends the same: URL, headers, through the same proxy."""

from __future__ import annotations

import pytest

from etl.readings.records import Answer, Failure
from etl.sources.contract import Target
from etl.sources.http.request import prepare
from tests.support import servers
from tests.support.http_sources import SECRET, headers_of, machine, poll, unused_port
from tests.support.servers import READING, answer, says

TARGETS = {
    "": "/",
    "?": "/",
    "#part": "/",
    "?a=b#c?d": "/?a=b",
    "/?x=größe": "/?x=gr%C3%B6%C3%9Fe",
    "/größe?y=%c3%B6": "/gr%C3%B6%C3%9Fe?y=%C3%B6",
    "/a/../b": "/b",
    "/a/./b/..": "/a/",
    "/../..": "/",
    "/a/%2e%2E/b/%2e": "/b/",
    "/...": "/...",
    "//a//b/": "//a//b/",
    "/?x=/../y": "/?x=/../y",
    "/%7euser": "/~user",
    "/a%2fb?c%26d": "/a%2Fb?c%26d",
    "/100%?%zz": "/100%25?%25zz",
    '/<>"{}|^`[]?[]{}"': "/%3C%3E%22%7B%7D%7C%5E%60%5B%5D?%5B%5D%7B%7D%22",
    "/a;b=c,d:e@f!$&'()*+?a+b%20c/?'": "/a;b=c,d:e@f!$&'()*+?a+b%20c/?'",
}


@pytest.mark.parametrize("written", TARGETS)
def test_a_path_and_query_are_sent_in_one_form(make, serve, written):
    """What is not ASCII is sent as escaped UTF-8, and a path without dot segments."""
    server = serve(servers.good)
    assert poll(make(machine(f"http://{server.netloc}{written}"))).answers == (Answer(READING),)
    assert server.requests[0].split(b"\r\n")[0].decode() == f"GET {TARGETS[written]} HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("HTTP://LOCALHOST:{port}/", "localhost:{port}"),
        ("http://user:p%40ss@127.0.0.1:{port}", "127.0.0.1:{port}"),
        ("http://127.0.0.1:0{port}/", "127.0.0.1:{port}"),
    ],
)
def test_a_host_is_sent_in_one_form(make, serve, url, host):
    """The host is sent in lower case and without the login."""
    server = serve(servers.good)
    assert poll(make(machine(url.format(port=server.port)))).answers
    assert headers_of(server.requests[0])["host"] == host.format(port=server.port)


@pytest.mark.parametrize("zone", ["", "%25lo", "%lo", "%25nope"])
def test_the_zone_of_an_address_is_no_part_of_the_request(make, serve, zone):
    """An IPv6 address that is not link-local needs no zone, and no zone is sent to the machine."""
    try:
        server = serve(servers.good, host="::1")
    except OSError:
        pytest.skip("this system has no IPv6 loopback address")
    assert poll(make(machine(f"http://[::1{zone}]:{server.port}/"))).answers
    assert headers_of(server.requests[0])["host"] == f"[::1]:{server.port}"


def test_the_zone_of_a_link_local_address():
    """A link-local address keeps its zone where the connection is opened."""
    for written in ("http://[FE80::1%25lo]:81/", "http://[fe80::1%lo]:81/"):
        request = prepare(machine(written), {})
        assert (request.url, request.headers["Host"]) == ("http://[fe80::1%25lo]:81/", b"[fe80::1]:81")


def test_an_interface_that_does_not_exist(make):
    """A link-local address on an unknown interface is a failure that names it."""
    failure = poll(make(machine("http://[fe80::1%25nope0]/"))).failure
    assert failure == Failure("network", "this computer has no network interface nope0")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:99999/", "failed"),
        ("http://[::1/", "failed"),
        ("http://[::g]/", "failed"),
        ("http://größe.example/", "dns"),
        ("http://a..b/", "dns"),
    ],
)
def test_a_url_that_cannot_be_requested(make, serve, url, reason):
    """A URL that a number in a template made invalid fails its own polls alone."""
    transport = make(machine(url, "bad"), machine(serve(servers.good).url, "good"))
    assert poll(transport, "bad").failure.reason == reason
    assert poll(transport, "good").answers
    assert poll(transport, "bad").failure.reason == reason


@pytest.mark.parametrize("change", [str, str.lower, str.upper], ids=["as it is", "lower case", "capitals"])
@pytest.mark.parametrize("name", ["Accept", "User-Agent", "Accept-Encoding", "Host", "Authorization"])
def test_a_configured_header_replaces_ours(make, serve, name, change):
    """A header of the config is sent once and in place of the default one, however it is written."""
    server = serve(servers.good)
    url = server.url.replace("://", f"://user:{SECRET}@")
    assert poll(make(machine(url, headers={change(name): "mine"}))).answers
    lines = server.requests[0].decode().lower().split("\r\n")
    assert [line for line in lines if line.startswith(name.lower() + ":")] == [f"{name.lower()}: mine"]


def test_an_empty_header_is_sent(make, serve):
    """A header without a value is sent as that."""
    server = serve(servers.good)
    assert poll(make(machine(server.url, headers={"accept": ""}))).answers
    assert headers_of(server.requests[0])["accept"] == ""


# Connections


@pytest.mark.parametrize("header", [{"Connection": "close"}, {"connection": "Close"}], ids=["capital", "lower case"])
def test_a_machine_that_takes_one_client_at_a_time(make, serve, header):
    """With `Connection: close` this side closes each connection, also if the machine would keep it."""
    server = serve(says(answer(headers="Connection: keep-alive\r\n")))
    transport = make(machine(server.url, "closing", headers=header), machine(server.url, "keeping"))
    for polls in range(1, 4):
        assert poll(transport, "closing").answers == (Answer(READING),)
        server.wait_until_idle()
        assert server.connections == polls
    for _ in range(3):
        assert poll(transport, "keeping").answers
    assert server.connections == 4


# Redirects


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (f"https://user:{SECRET}@plant.example:8443/{SECRET}?{SECRET}", "; it leads to plant.example:8443 over https"),
        ("//plant.example/data", "; it leads to plant.example"),
        ("HTTP://PLANT.EXAMPLE", "; it leads to plant.example over http"),
        ("http://[fd00::1]:81/", "; it leads to fd00::1:81 over http"),
        ("/login", "; it leads to another path of the same host"),
        ("", ""),
        ("http://a:b:c/", ""),
        ("http://a\x1bb.example/", ""),
        ("http://" + "a" * 300 + ".example/", "; it leads to " + "a" * 100 + " over http"),
        ("http://[/", ""),
    ],
)
def test_where_a_redirect_leads(make, serve, location, target):
    """The failure names the host that a redirect leads to, and neither the login nor the path."""
    server = serve(says(answer(status="302 Found", headers=f"Location: {location}\r\n")))
    failure = poll(make(machine(server.url))).failure
    assert failure == Failure("redirect", f"HTTP 302: redirects are not followed{target}")


# Proxies


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("prefix", ["http://", ""], ids=["URL", "address"])
def test_every_proxy_variable_counts(make, serve, monkeypatch, name, prefix):
    """A proxy is found under each name, also in capitals, with or without its scheme."""
    proxy = serve(servers.proxies)
    monkeypatch.setenv(name, prefix + proxy.netloc)
    assert poll(make(machine("http://machine.example/data"))).answers == (Answer(b'{"id":"through the proxy"}'),)


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_every_proxy_variable_counts_for_tls(make, serve, monkeypatch, name):
    """TLS goes through its own proxy, or that for all."""
    proxy = serve(servers.says_and_closes(answer(status="403 Forbidden")))
    monkeypatch.setenv(name, proxy.url)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    assert poll(make(machine("https://machine.example/data"))).failure.reason == "proxy"
    assert proxy.requests[0].startswith(b"CONNECT machine.example:443 ")


@pytest.mark.parametrize(
    "environment",
    [
        {"http_proxy": "", "HTTP_PROXY": "dead"},
        {"https_proxy": "dead"},
        {"HTTP_PROXY": "dead", "REQUEST_METHOD": "GET"},
        {"http_proxy": "dead", "no_proxy": "*"},
        {"http_proxy": "dead", "NO_PROXY": "127.0.0.1"},
        {"all_proxy": "dead", "no_proxy": "example.org, 127.0.0.0/8"},
        {"http_proxy": "dead", "no_proxy": "127.0.0.1:{port}"},
    ],
)
def test_what_is_polled_directly(make, serve, monkeypatch, environment):
    """An empty variable, `no_proxy`, and HTTP_PROXY in a CGI program mean no proxy."""
    server = serve(servers.good)
    dead = f"http://127.0.0.1:{unused_port()}"
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(port=server.port).replace("dead", dead))
    assert poll(make(machine(server.url))).answers == (Answer(READING),)


@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://127.0.0.1:1", "ftp://127.0.0.1:1", "http://", "nothing://x", "host:port", "http://h:99999",
        "http://[::1", "http://u:p/w@h:1", "http://a b",
    ],
)  # fmt: skip
def test_a_proxy_that_does_not_speak_http(make, monkeypatch, proxy):
    """A proxy that is no HTTP proxy is a failure that says so, and the machine is not polled directly."""
    monkeypatch.setenv("all_proxy", proxy)
    failure = poll(make(machine("http://machine.example/data"))).failure
    assert failure == Failure("proxy", "the proxy in the environment is not an http or https address")


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("plant.example", "http://plant.example/", True),
        ("plant.example", "http://press.plant.example/", True),
        (".plant.example", "http://plant.example/", True),
        ("*.plant.example", "http://press.plant.example/", True),
        ("PLANT.example", "http://press.Plant.Example:81/", True),
        ("plant.example", "http://implant.example/", False),
        ("plant.example:80", "http://plant.example/", True),
        ("plant.example:443", "https://plant.example/", True),
        ("plant.example:81", "http://plant.example/", False),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.1/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.1.2.3:81", "http://10.1.2.3:81/", True),
        ("10.1.2.3:81", "http://10.1.2.3/", False),
        ("1.2.3", "http://10.1.2.3/", False),
        ("fd00::/8", "http://[fd00::1]/", True),
        ("fd00::1", "http://[fd00::1]/", True),
        ("[fd00::1]", "http://[fd00::1]/", True),
        ("[fd00::1]:81", "http://[fd00::1]:81/", True),
        ("fe80::/10", "http://[fe80::1%25lo]/", True),
        ("a b,c\tplant.example", "http://plant.example/", True),
        ("", "http://plant.example/", False),
        (",", "http://plant.example/", False),
        (".", "http://plant.example/", False),
        ("/8", "http://10.1.2.3/", False),
        (":80", "http://plant.example/", False),
    ],
)
def test_no_proxy_names_hosts_domains_and_networks(no_proxy, url, direct):
    """`no_proxy` lists hosts, domains and networks, each for all ports or for one."""
    request = prepare(Target("machine", url, 1, {}), {"all": "http://proxy.example:3128", "no": no_proxy})
    assert request.proxy == ("" if direct else "http://proxy.example:3128")
