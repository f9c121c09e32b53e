"""`etl try`: one poll, shown, with what is wrong and what to change; nothing is written."""

from __future__ import annotations

import json
import os

import pytest

from tests.support import servers
from tests.support.process import Site, end, free_port, until
from tests.support.servers import Server, answer, says


@pytest.fixture
def site(tmp_path):
    """A folder without a config."""
    return Site(tmp_path)


@pytest.fixture
def machine():
    """Start servers that answer each request in one way; the server, whose `url` is polled."""
    started = []

    def start(body, **options) -> Server:
        talk = body if callable(body) else says(answer(body if isinstance(body, bytes) else json.dumps(body).encode()))
        started.append(Server(talk, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_an_address_is_tried_without_a_config(site, machine):
    """The answer with its size, the reading, and what each parameter would average; no file is created."""
    tried = site.etl("try", machine(servers.READING).url)
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "an answer of 108 bytes" in tried.stdout
    assert '"temperature":30.21' in tried.stdout
    assert "temperature: 30.21 from temperature" in tried.stdout
    assert "speed: 811.62 from fan_speed" in tried.stdout
    assert "hint" not in tried.stdout
    assert os.listdir(site.root) == []


def test_the_zone_of_this_machine_does_not_matter_without_a_config(site, machine):
    """A zone without a name, as in a container, is refused in a config, and is not asked for here."""
    environment = os.environ | {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"}
    assert site.etl("try", machine(servers.READING).url, env=environment).returncode == 0


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ([{"id": 1, "temperature": 5, "fan_speed": 6}], 1, 'the answer is a list: set records: "[]"'),
        ({"a": {"temperature": 1, "x": 2}, "b": {"temperature": 1, "x": 2}}, 1, 'set records: "@" and id: key'),
        ({"temperature": 5, "fan_sped": 6}, 0, "speed: no number: the reading has no fan_speed; it has temperature"),
        ({"temperature": 5, "fan_sped": 6}, 0, "did you mean fan_sped?"),
        ({"temperature": "5", "fan_speed": 6}, 0, 'temperature is "5" in quotes'),
        ({"error": "offline"}, 1, 'looks like an error of the machine: error is "offline"'),
        (b"<html>Login</html>", 1, "a web page"),
        (b"", 1, "the answer is empty"),
        (servers.says(answer(b"", "401 Unauthorized")), 69, "headers: {Authorization"),
        (servers.says(answer(b"", "302 Found", "Location: http://other/\r\n")), 69, "hint: write the address"),
        (servers.breaks_off(), 69, "no answer: "),
    ],
)
def test_what_is_wrong_is_told_with_a_hint(site, machine, body, code, words):
    """Each wrong answer has its sentence; 1: an answer without any number, 69: no answer."""
    tried = site.etl("try", machine(body).url)
    assert (tried.returncode, tried.stderr) == (code, "")
    assert words in tried.stdout


def test_numbers_of_any_length_are_numbers(site, machine):
    """A double of 17 digits, as many programs write it, and what neither a double nor 64 bits hold."""
    body = b'[{"id": %d, "temperature": 21.700000000000003, "fan_speed": 1234567890123456789012}]'
    items = b",".join(body[1:-1] % (2**70 + n) for n in range(2))
    site.save(sources=[{"name": "m", "url": machine(b"[" + items + b"]").url, "records": "[]"}])
    tried = site.etl("try", "m")
    assert (tried.returncode, tried.stderr) == (0, "")
    assert "temperature: 21.7, 21.7 from temperature" in tried.stdout
    assert "speed: 1.23456789e+21, 1.23456789e+21 from fan_speed" in tried.stdout
    assert "hint" not in tried.stdout


def test_a_certificate_that_is_not_trusted_is_explained(site, machine, tmp_path):
    """A self-signed certificate leads to ca_file, with which the same source answers."""
    certificates = servers.make_certificates(tmp_path)
    server = machine(servers.READING, tls=servers.tls(certificates.self_signed))
    tried = site.etl("try", server.url)
    assert (tried.returncode, "set ca_file" in tried.stdout) == (69, True)
    site.save(sources=[{"name": "press", "url": server.url, "ca_file": "self_signed.pem"}])
    assert site.etl("try", "press").returncode == 0


@pytest.mark.parametrize("transport", ["requests", "curl"])
def test_a_name_is_polled_with_the_settings_of_its_source(site, machine, transport):
    """Headers, records and parameters of the config apply, also to one of count sources and to its address."""
    pytest.importorskip("pycurl") if transport == "curl" else None
    server = machine({"list": [{"id": n, "bar": n * 2.5} for n in range(1, 6)]})
    base = server.url.removesuffix("/data")
    source = {"name": "press-{n}", "url": base + "/{n}", "count": 9, "records": "list[]", "headers": {"X-Key": "17"}}
    site.save(sources=[source], parameters={"pressure": "bar"}, transport=transport)
    for target in ("press-7", base + "/7"):
        tried = site.etl("try", target)
        assert (tried.returncode, tried.stderr) == (0, "")
        assert f"press-7: {base}/7" in tried.stdout
        assert "5 readings" in tried.stdout
        assert "... 2 further readings" in tried.stdout
        assert "pressure: 2.5, 5, 7.5, ... from bar" in tried.stdout
        assert b"GET /7 " in server.requests[-1]
        assert b"X-Key: 17" in server.requests[-1]
    assert site.etl("try", base + "/10").stdout.startswith(base)


def test_an_address_that_needs_further_keys_is_tried_by_its_name(site):
    """An OPC UA address alone names no nodes: the message says to write a source, and shows no login."""
    tried = site.etl("try", "opc.tcp://user:s3cret@plc-1:4840")
    assert tried.returncode == 2
    assert "opc.tcp://plc-1:4840 cannot be polled alone: it is an opc.tcp:// address; write a source with opcua:" in (
        tried.stderr
    )


def test_files_are_tried(site):
    """A document by its path, a followed file by its first lines, from the current folder and from the config's."""
    (site.root / "one.json").write_text('[{"temperature": 5}, {"temperature": 7}]')
    (site.root / "lines.jsonl").write_text('{"temperature": 5}\nnonsense\n{"temperature": 6, "fan_speed": 8}\n{"half')
    tried = site.etl("try", "one.json")
    assert (tried.returncode, "temperature: 5 from temperature" in tried.stdout) == (0, True)
    site.save(sources=[{"name": "oven", "file": "lines.jsonl"}])
    for target in ("oven", "lines.jsonl", str(site.root / "lines.jsonl")):
        tried = site.etl("try", target)
        assert tried.returncode == 0
        assert "3 lines" in tried.stdout
        assert "2 readings" in tried.stdout
        assert "rejected: the answer is not JSON" in tried.stdout
        assert "speed: 8 from fan_speed (1 reading without a number)" in tried.stdout
    (site.root / "lines.jsonl").write_text("")
    tried = site.etl("try", "oven")
    assert (tried.returncode, "no complete line" in tried.stdout) == (1, True)


def test_every_source_is_summarized(site, machine):
    """Without an argument each source has a line, those that fail first; 69 only if none answered."""
    good, bad = machine(servers.READING).url, machine({"rpm": 1}).url
    refused = f"http://127.0.0.1:{free_port()}/"
    site.save(sources=[{"name": "a", "url": good}, {"name": "b", "url": refused}, {"name": "c", "url": bad}])
    tried = site.etl("try")
    assert (tried.returncode, tried.stderr) == (1, "")
    lines = tried.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["b", "c", "a"]
    assert "no answer: connection refused" in lines[0]
    assert lines[1].endswith("1 reading, temperature no number, speed no number")
    assert lines[2].endswith("1 reading, temperature 30.21, speed 811.62")
    assert lines[3].startswith("3 sources: 2 answered, 1 with a number for each parameter")
    site.save(sources=[{"name": "b-{n}", "url": refused + "{n}", "count": 300}])
    tried = site.etl("try")
    assert tried.returncode == 69
    assert len(tried.stdout.splitlines()) == 102
    assert "... 200 further sources" in tried.stdout


def test_an_argument_that_means_nothing_is_refused(site):
    """Exit 2 with a similar name or what to write; a bad config is 78, and so is a missing one that is needed."""
    for target in ("press-7", "127.0.0.1:80/data", "missing.json", "x" * 5000):
        refused = site.etl("try", target)
        assert (refused.returncode, refused.stdout) == (78, "")
        assert all(words in refused.stderr for words in ("no URL and no file", "http://", "etl init"))
    site.save(sources=[{"name": "press-7", "file": "press.json"}])
    refused = site.etl("try", "press-8")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Did you mean press-7?" in refused.stderr
    for target, words in (
        ("mqtt://broker/topic", "mqtt"),
        ("127.0.0.1:80/data", "http://"),
        ("http://a b/", "http"),
        ("x" * 300, "no source"),
    ):
        refused = site.etl("try", target)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert words in refused.stderr
    (site.root / "config.yaml").write_text("intervall: 1s")
    assert site.etl("try", "http://127.0.0.1:1/").returncode == 78
    assert site.etl("try", "http://127.0.0.1:1/", "--config", "other.yaml").returncode == 78


def test_a_name_too_long_for_a_path_is_refused(site):
    """Beside a config, too: exit 2 and a sentence."""
    site.save(sources=[{"name": "press-7", "file": "press.json"}])
    refused = site.etl("try", "x" * 5000)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is no source of config.yaml and no file" in refused.stderr


def test_a_refused_login_and_a_huge_answer_are_explained(site, machine):
    """The hint is about the login that was sent, and about the size of an answer, not about its first item."""
    url = machine(servers.says(answer(b"", "401 Unauthorized"))).url
    tried = site.etl("try", url.replace("http://", "http://user:secret@"))
    assert tried.returncode == 69
    assert "compare user and password" in tried.stdout
    assert "secret" not in tried.stdout
    assert "hint: ask the machine for less" in site.etl("try", machine(b"[" + b"1," * 200_000 + b"1]").url).stdout


def test_trying_needs_no_lock_and_leaves_the_folder_alone(site):
    """Beside `etl run`, in the same folder, a source is tried while the process goes on."""
    site.save()
    with site.running() as process:
        until(lambda: site.lines("averages"))
        assert site.etl("try").returncode == 0
        before = len(site.lines("raw"))
        until(lambda: len(site.lines("raw")) > before)
        end(process)


def test_what_machines_send_cannot_control_a_terminal(site, machine):
    """Control characters in answers, names and keys are escaped, and long texts clipped."""
    hostile = "\x1b[2J\u202e" + "x" * 100_000
    server = machine({hostile: {hostile: 1}, "temperature": hostile, "error": hostile})
    site.save(sources=[{"name": "m", "url": server.url.replace("/data", "/" + "y" * 300)}])
    for target in ("m", server.url):
        tried = site.etl("try", target)
        assert tried.returncode == 1
        assert all(line.isprintable() for line in tried.stdout.splitlines())
        assert len(tried.stdout) < 4000


def test_no_secret_is_shown(site):
    """The login and the query of an address do not appear."""
    tried = site.etl("try", f"http://user:hunter2@127.0.0.1:{site.port}/data?key=hunter2")
    assert tried.returncode == 69
    assert "hunter2" not in tried.stdout + tried.stderr
    refused = site.etl("try", "ftp://user:hunter2@host/?key=hunter2")
    assert "hunter2" not in refused.stdout + refused.stderr
