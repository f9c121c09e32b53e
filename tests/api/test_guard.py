"""Who may write, which Host headers are accepted, and that a token appears nowhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import product
from urllib.error import HTTPError

import pytest

from api.app import create_app
from api.guard import Guard
from api.machines import Machines
from api.server import is_loopback, serve
from tests.support.api import client, console, is_error, status_of
from tests.support.process import Site, end, not_refused, until

TOKEN = "hunter2-hunter2"
WRITES = ["/status", "/machines/1/status", "/nothing", "/averages"]


def guarded(**guard):
    """A client of an application with this guard."""
    return create_app(Machines(3), guard=Guard(**guard)).test_client()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}",
     f"Bearer {TOKEN.upper()}", f"Bearer x {TOKEN}", "Bearer h\u00fcnter2", f"Bearer {TOKEN}, Bearer {TOKEN}"],
)  # fmt: skip
def test_a_write_without_the_token_is_401_and_changes_nothing(authorization):
    """A token that is missing or wrong is a JSON 401 with WWW-Authenticate: Bearer, for every method that writes."""
    app = guarded(token=TOKEN)
    headers = {} if authorization is None else {"Authorization": authorization}
    for path, method in product(WRITES, ("POST", "PUT", "PATCH", "DELETE")):
        answer = app.open(path, method=method, headers=headers, json={"status": "ERROR"})
        assert is_error(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert status_of(app) == "IDLE"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_write_with_the_token_is_accepted(scheme):
    """With the token a status is set; reads need no token."""
    app = guarded(token=TOKEN)
    answer = app.post("/status", headers={"Authorization": f"{scheme} {TOKEN}"}, json={"status": "ERROR"})
    assert (answer.status_code, status_of(app)) == (200, "ERROR")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5000", "LOCALHOST.", "127.0.0.1:5000", "192.0.2.7", "[::1]:5000", "[fe80::1]", "etl:5000",
     socket.gethostname(), f"{socket.gethostname()}.local:80", "plant.example", "Plant.Example:5000"],
)  # fmt: skip
def test_a_host_header_that_names_this_server_is_accepted(host):
    """Addresses, names without a dot, the hostname and the configured name are accepted."""
    assert guarded(host="plant.example").get("/data", headers={"Host": host}).status_code == 200


def test_the_hostname_is_accepted_in_any_domain_if_other_machines_can_reach_the_server():
    """The server cannot know the domains other machines use for it; on loopback no domain is needed."""
    host = f"{socket.gethostname()}.plant.example"
    assert guarded(exposed=True).get("/data", headers={"Host": host}).status_code == 200
    assert is_error(guarded(exposed=True).get("/data", headers={"Host": f"x{host}"}), 400)
    assert is_error(guarded().get("/data", headers={"Host": host}), 400)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "localhost.evil.example", "plant.example.evil.test",
     "1.2.3", "1.2.3.4.5", "0x7f.1", "x.plant.example", "evil.example.", "[::1].evil.example", "a:b:c",
     "u@evil.example"],
)  # fmt: skip
def test_a_host_header_that_names_another_server_is_refused(host):
    """A page that resolves its own name to this server (DNS rebinding) reads and writes nothing."""
    app = guarded(host="plant.example")
    assert is_error(app.get("/data", headers={"Host": host}), 400)
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert app.post("/status", headers=headers, json={"status": "ERROR"}).status_code in (400, 403)
    assert status_of(app) == "IDLE"


def test_a_program_that_sends_no_host_is_served():
    """A health check over HTTP/1.0 without a Host header is answered."""
    with socket.create_connection(("127.0.0.1", serve(create_app(Machines()), "127.0.0.1", 0)), 60) as connection:
        connection.sendall(b"GET /data HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").readline() == b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    "sent", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA: \x01b\r\n\r\n",
             b"GET / HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n",
             b"POST /status HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
def test_a_request_that_is_not_http_is_refused(sent):
    """A request the server cannot parse gets an HTTP error that shows no traceback and no name of a library."""
    with socket.create_connection(("127.0.0.1", serve(create_app(Machines()), "127.0.0.1", 0)), 60) as connection:
        connection.sendall(sent)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.")
    assert head.split()[1][:1] in b"45"
    assert b"waitress" not in head + body
    assert b"Traceback" not in body


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("0", False), ("2001:db8::1", False)],
)  # fmt: skip
def test_loopback_addresses_are_recognized(host, loopback):
    """An address is loopback or not, in whatever notation it is written."""
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\u202eevil", "\x1b[31mred", "</style>"])
def test_a_hostile_name_is_served_as_json(name):
    """A machine may have any name: its line is JSON, and the browser may not guess another content type."""
    line = json.dumps({"source": name}).encode()
    answer = console(averages=lambda: [line]).get("/averages")
    assert (answer.mimetype, answer.json) == ("application/json", [{"source": name}])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "0"])
def test_run_refuses_an_exposed_address_without_a_token(site, host):
    """`etl run` and `etl check` of an address that others can reach exit with 78 and a hint, and create no file."""
    site.save(api={"host": host, "port": site.port})
    refused = site.etl("run")
    assert (refused.returncode, refused.stdout) == (78, "")
    assert f"Other hosts can reach api.host {host}: set api.token" in refused.stderr
    assert "--insecure" in refused.stderr
    assert not (site.root / "output").exists()
    checked = site.etl("check")
    assert (checked.returncode, checked.stdout) == (78, "")
    assert checked.stderr == (
        f"config.yaml:2:9: Other hosts can reach api.host {host}; "
        "set api.token, which writes then need, or use --insecure\n"
    )
    assert site.etl("check", "--insecure").returncode == 0


def test_run_serves_an_exposed_address_with_insecure(site):
    """With --insecure, or without an API to serve, no token is needed."""
    site.save(api={"host": "0.0.0.0", "port": site.port})
    with site.running("-m", "etl", "run", "--insecure") as process:
        until(lambda: site.lines("averages"))
        assert site.ask("/status", b'{"status": "ERROR"}') == {"message": "Status updated"}
        end(process)
    site.save(api={"host": "0.0.0.0", "port": site.port, "serve": False}, sources=[{"name": "a", "file": "a.json"}])
    with site.running() as process:
        until(lambda: site.events("source_down"))
        end(process)


def test_the_token_of_a_running_process_appears_nowhere(site, monkeypatch):
    """The token is in no log, response or file of the process; a SIGHUP with another token is refused."""
    monkeypatch.setenv("SECRET", TOKEN)
    site.save(api={"host": "127.0.0.1", "port": site.port, "token": "${SECRET}"})
    with site.running() as process:
        until(lambda: site.lines("averages"))
        app = f"http://127.0.0.1:{site.port}"
        refused = subprocess.run(
            ["curl", "-s", "-w", "%{http_code}", "-X", "POST", f"{app}/status", "-d", '{"status":"ERROR"}'],
            capture_output=True,
        )
        assert refused.stdout.endswith(b"401")
        assert site.ask("/data")["status"] == "IDLE"
        shown = "".join(str(site.ask(path)) for path in ("/openapi.json", "/events", "/averages", "/readyz"))
        site.save(api={"host": "127.0.0.1", "port": site.port, "token": "swordfish"})
        process.send_signal(1)
        until(lambda: "api.token changed, which needs a restart" in (site.root / "stderr").read_text())
        end(process)
    texts = shown + (site.root / "stderr").read_text() + site.etl("check").stdout
    for file in (site.root / "output").rglob("*.json*"):
        texts += file.read_text()
    assert TOKEN not in texts
    assert "swordfish" not in texts


@pytest.mark.parametrize("token", ["", " ", "two words", "\u00e9"])
def test_an_invalid_token_is_refused(site, monkeypatch, token):
    """An empty token, and one that no header can carry, is exit code 78, and the message does not show it."""
    monkeypatch.setenv("API_TOKEN", token)
    api = subprocess.run([sys.executable, "-m", "api", "--port", "0"], capture_output=True, text=True, timeout=60)
    site.save(api={"token": "${API_TOKEN}"})
    run = site.etl("run")
    for process in (api, run):
        assert process.returncode == 78
        assert len(process.stderr.splitlines()) == 1
        assert "token" in process.stderr.lower()
        assert not token.strip() or token not in process.stderr


def test_the_simulated_machines_need_a_token_on_an_exposed_address(monkeypatch):
    """`python -m api` on an exposed address is exit code 78 without API_TOKEN or --insecure."""
    monkeypatch.delenv("API_TOKEN", raising=False)
    command = [sys.executable, "-m", "api", "--port", "0", "--host"]
    refused = subprocess.run([*command, "0.0.0.0"], capture_output=True, text=True, timeout=60)
    assert (refused.returncode, refused.stderr) == (
        78,
        "Other machines can reach 0.0.0.0: set API_TOKEN to a token that writes then need, or pass --insecure.\n",
    )
    for options, token in (["--insecure"], None), ([], TOKEN):
        if token:
            monkeypatch.setenv("API_TOKEN", token)
        with subprocess.Popen([*command, "0.0.0.0", *options], stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr.readline().startswith("Serving 1 machine on http://0.0.0.0:")
            finally:
                process.kill()


def test_a_symbolic_link_is_not_served_as_a_report(site):
    """A symbolic link in the folder of reports does not expose a file outside of it."""
    site.save(sources=[{"name": "a", "file": "a.json"}])
    reports = site.root / "output" / "reports"
    reports.mkdir(parents=True)
    (reports / "2026-01-05.json").symlink_to(site.root / "config.yaml")
    (reports / "2026-01-06.json").write_text("{}")
    with site.running() as process:
        assert until(lambda: not_refused(site)) is True
        assert site.ask("/reports/2026-01-06") == {}
        with pytest.raises(HTTPError, match="404"):
            site.ask("/reports/2026-01-05")
        end(process)


def test_the_docs_page_loads_nothing():
    """The page about the API has no script and no external link, and its policy allows only its own style."""
    answer = client().get("/docs")
    policy = answer.headers["Content-Security-Policy"]
    assert answer.mimetype == "text/html"
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "GET /data" in answer.text
    assert "POST /machines/{id}/status" in answer.text
