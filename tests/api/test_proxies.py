"""The API behind a reverse proxy: the names it is reached under, and whose X-Forwarded headers count."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from contextlib import closing
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.__main__ import main
from api.app import create_app
from api.guard import Guard
from api.machines import Machines
from api.server import serve
from tests.support.api import EMPTY, is_error, status_of
from tests.support.process import HANG_S, Site, end, free_port, not_refused, until

NAME = "telemetry.example.org"
NAMES = (NAME, "Machines.Example.org:8443", "etl.plant.svc.cluster.local", "[2001:db8::7]", "192.0.2.7:8080")
PROXY = "192.0.2.1"
"""The address of the proxy of these tests."""
README = Path(__file__).parents[2] / "api" / "README.md"


def guarded(**guard):
    """A client of an application with this guard."""
    return create_app(Machines(), guard=Guard(**guard)).test_client()


def post(app, headers, peer="127.0.0.1"):
    """A browser's write, which comes from this address."""
    return app.post("/status", headers=headers, json={"status": "ERROR"}, environ_base={"REMOTE_ADDR": peer})


@pytest.mark.parametrize(
    "host",
    [NAME, f"{NAME}:443", f"{NAME}:8080", f"{NAME}.", NAME.upper(), "machines.example.org:8443", "machines.example.org",
     "etl.plant.svc.cluster.local:5000", "10.42.0.7:5000", "localhost"],
)  # fmt: skip
def test_a_listed_name_is_accepted(host):
    """A proxy that keeps the Host header, or a name inside a cluster, is served: reads, and writes of its own pages."""
    app = guarded(names=NAMES)
    assert app.get("/data", headers={"Host": host}).status_code == 200
    for scheme in ("http", "https"):
        assert post(app, {"Host": host, "Origin": f"{scheme}://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "example.org", f"x.{NAME}", f"{NAME}.evil.example", f"x{NAME}", "telemetry-example.org",
     "telemetryxexample.org", "etl.plant.svc.cluster.local.evil.example", f"{NAME}, evil.example", f"{NAME}/",
     f"u@{NAME}", f"{NAME}:8443:1", "*.example.org", ""],
)  # fmt: skip
def test_a_name_that_is_not_listed_is_refused(host):
    """With names listed, a page that resolves its own name to this server still reads and writes nothing."""
    app = guarded(names=NAMES)
    if host:
        assert is_error(app.get("/data", headers={"Host": host}), 400)
    assert post(app, {"Host": host, "Origin": f"https://{host or 'evil.example'}"}).status_code in (400, 403)
    assert status_of(app) == "IDLE"


@pytest.mark.parametrize(
    "site",
    [NAME, f"{NAME}:443", f"{NAME}:80", NAME.upper(), "machines.example.org:8443", "[2001:db8::7]", "192.0.2.7:8080"],
)
def test_a_page_of_a_listed_name_may_write_if_the_proxy_replaces_the_host(site):
    """Behind a proxy that sends its own Host header the Origin names the site, with its port."""
    app = guarded(names=NAMES)
    for host in ("127.0.0.1:5000", "etl:5000"):
        assert post(app, {"Host": host, "Origin": f"https://{site}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": f"https://x.{NAME}"}, {"Origin": f"https://{NAME}:8443"},
     {"Origin": "https://machines.example.org"}, {"Origin": "https://192.0.2.7"}, {"Origin": "null"},
     {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "cross-site"}, {"Origin": f"https://{NAME}@evil.example"},
     {"Origin": f"https://evil.example#{NAME}"}, {"Origin": f"https://{NAME}, https://evil.example"}],
)  # fmt: skip
def test_a_page_of_another_site_may_not_write_through_the_proxy(headers):
    """Another site, another port of a listed name, and what the browser marks as cross-site are a 403."""
    app = guarded(names=NAMES)
    assert is_error(post(app, {"Host": "127.0.0.1:5000", **headers}), 403)
    assert status_of(app) == "IDLE"


@pytest.mark.parametrize(
    ("proxy", "peer", "trusted"),
    [(PROXY, PROXY, True), ("192.0.2.0/24", PROXY, True), (PROXY, "::ffff:192.0.2.1", True),
     ("2001:db8::/32", "2001:db8::5", True), ("fe80::/10", "fe80::1%eth0", True), (PROXY, "192.0.2.2", False),
     (PROXY, "127.0.0.1", False), ("10.0.0.0/8", "::a00:1", False), ("::/8", "10.0.0.1", False), (None, PROXY, False)],
)  # fmt: skip
def test_forwarded_headers_count_from_the_proxy_alone(proxy, peer, trusted):
    """X-Forwarded-Host replaces the Host header if it comes from api.proxy: it must be listed, and can be refused."""
    app = guarded(names=NAMES, proxy=proxy and ip_network(proxy))
    for forwarded, origin, code in (
        (f"{NAME}:8443", f"https://{NAME}:8443", 200 if trusted else 403),
        ("evil.example", "https://evil.example", 400 if trusted else 403),
        ("evil.example", "https://etl:5000", 403 if trusted else 200),
        (f"evil.example, {NAME}:8443", f"https://{NAME}:8443", 200 if trusted else 403),
        (f"{NAME}, evil.example", f"https://{NAME}:8443", 403),
    ):
        headers = {"Host": "etl:5000", "X-Forwarded-Host": forwarded, "X-Forwarded-Proto": "https", "Origin": origin}
        assert post(app, headers, peer).status_code == code


def test_a_forwarded_host_makes_no_name_valid():
    """A client cannot name itself: X-Forwarded-Host, Forwarded and the like do not replace a Host that is refused."""
    app = guarded(names=NAMES)
    for header in ("X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server"):
        assert is_error(app.get("/data", headers={"Host": "evil.example", header: NAME}), 400)
    assert is_error(app.get("/data", headers={"Host": "evil.example", "Forwarded": f"host={NAME}"}), 400)


def test_the_real_server_passes_the_headers_on():
    """Over a real connection the forwarded host counts from the proxy's address, and from no other."""
    for proxy, code in (("127.0.0.0/8", 400), ("192.0.2.0/24", 200)):
        guard = Guard(names=NAMES, proxy=ip_network(proxy))
        port = serve(create_app(Machines(), guard=guard), "127.0.0.1", 0)
        assert ask(port, "GET", "/data", {"X-Forwarded-Host": "evil.example"}) == code


@pytest.mark.parametrize(
    "arguments",
    [("--name", "http://telemetry.example.org"), ("--name", "*.example.org"), ("--name", ""), ("--proxy", "nginx"),
     ("--proxy", "10.0.0.1/8"), ("--proxy", ""), ("--proxy", "0.0.0.0/0"), ("--proxy", "::/0")],
)  # fmt: skip
def test_an_invalid_name_or_proxy_of_the_command_is_a_usage_error(arguments):
    """`python -m api` refuses a name with a scheme or a wildcard, and a proxy that is not an address or network."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "such as" in result.output


def test_run_takes_names_and_proxy_from_the_config(tmp_path):
    """`etl run` serves the names of api.names, and reads the headers of api.proxy."""
    site = Site(tmp_path)
    site.save(api={"port": site.port, "names": [NAME], "proxy": "127.0.0.1"})
    with site.running() as process:
        until(lambda: not_refused(site))
        assert ask(site.port, "GET", "/healthz", {"Host": NAME}) == 200
        assert ask(site.port, "GET", "/healthz", {"Host": f"x.{NAME}"}) == 400
        assert ask(site.port, "GET", "/healthz", {"X-Forwarded-Host": f"x.{NAME}"}) == 400
        end(process)


def ask(port, method, path, headers):
    """The status of an answer."""
    body = b'{"status": "ERROR"}' if method == "POST" else None
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)) as link:
        link.request(method, path, body, headers=headers)
        return link.getresponse().status


def snippet():
    """The nginx configuration in the README."""
    return re.search(r"^```nginx\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def nginx(tmp_path):
    """A function that starts nginx with the README's configuration in front of a server, and returns its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("nginx is not installed")
    started = []

    def start(backend, *changes):
        port = free_port()
        server = snippet()
        for old, new in (
            ("listen 80", f"listen 127.0.0.1:{port}"),
            ("127.0.0.1:5000", f"127.0.0.1:{backend}"),
            *changes,
        ):
            assert old in server
            server = server.replace(old, new)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
        config = tmp_path / f"{port}.conf"
        config.write_text(
            f"daemon off; master_process off; pid {tmp_path}/{port}.pid; error_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{folders}{server}}}\n"
        )
        process = subprocess.Popen([program, "-p", tmp_path, "-c", config], stderr=subprocess.PIPE)
        started.append(process)
        until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, process.stderr.read().decode()
        return port

    yield start
    for process in started:
        process.kill()
        process.communicate()


def listens(port):
    try:
        return bool(ask(port, "GET", "/data", {"Host": NAME}))
    except ConnectionError:
        return False


REPLACED = ("proxy_set_header Host $http_host; ", "")
FORWARDED = ("proxy_set_header Host ", "proxy_set_header X-Forwarded-Host ")


@pytest.mark.parametrize(
    ("changes", "proxy", "unlisted"),
    [
        pytest.param([], None, 400, id="the README's configuration"),
        pytest.param([REPLACED], None, 200, id="Host replaced"),
        pytest.param([FORWARDED], "127.0.0.1", 400, id="Host replaced and forwarded"),
    ],
)
def test_nginx_in_front_of_the_api(nginx, changes, proxy, unlisted):
    """A browser reads and writes through nginx, on the name and port it shows; other sites and names are refused."""
    guard = Guard("", names=(NAME, f"{NAME}:8443"), proxy=proxy and ip_network(proxy))
    views = EMPTY._replace(metrics=lambda: b"", report=lambda day: None)
    backend = serve(create_app(Machines(), views, guard=guard), "127.0.0.1", 0)
    port = nginx(backend, *changes)
    for site in (NAME, f"{NAME}:8443"):
        same = {"Host": site, "Origin": f"http://{site}", "Sec-Fetch-Site": "same-origin"}
        assert ask(port, "GET", "/", {"Host": site}) == 200
        assert ask(port, "POST", "/status", same) == 200
        assert ask(port, "POST", "/status", same | {"Origin": "https://evil.example"}) == 403
        assert ask(port, "POST", "/status", same | {"Sec-Fetch-Site": "cross-site"}) == 403
        assert ask(port, "POST", "/status", same | {"X-Forwarded-Host": "evil.example"}) == 200
    assert ask(port, "GET", "/", {"Host": "evil.example"}) == unlisted
    assert ask(port, "POST", "/status", {"Host": "evil.example", "Origin": "http://evil.example"}) in (400, 403)
