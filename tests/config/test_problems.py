"""What is refused: each broken config, and the lines that explain it."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest
import requests
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.config import document
from etl.config.document import ConfigError
from etl.config.load import MAX_CONFIG_BYTES, load
from tests.support.configs import MINIMAL, SHIPPED, check, problems_of, written

BROKEN = Path(__file__).parent
PYTHON_WORDS = re.compile(
    r"`|\$\.|\b(str|int|float|bool|dict|tuple|object|None|NoneType|Error|expected|token|mapping)\b"
)
MEBIBYTE = 1 << 20


def expected():
    """The lines of expected.txt by file: what `etl check` prints for it in the folder of the file."""
    lines = defaultdict(list)
    for line in (BROKEN / "expected.txt").read_text().splitlines():
        lines[line.partition(":")[0]].append(line)
    return lines


EXPECTED = expected()


@pytest.mark.parametrize("name", sorted({path.name for path in BROKEN.glob("*.yaml")} | set(EXPECTED)))
def test_each_broken_config_has_its_lines(name, monkeypatch):
    """A broken file gives exactly the lines of expected.txt ("..." stands for any end)."""
    monkeypatch.chdir(BROKEN)
    problems = problems_of(Path(name))
    assert len(problems) == len(EXPECTED[name])
    for problem, line in zip(problems, EXPECTED[name], strict=True):
        assert problem == line or (line.endswith("...") and problem.startswith(line[:-3]))


def words_of_pyyaml(name):
    """What PyYAML itself says of a broken file: its context and its problem; nothing for valid YAML."""
    try:
        yaml.compose((BROKEN / name).read_bytes().decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return [words for words in (error.context, error.problem) if words]
    except (yaml.YAMLError, UnicodeDecodeError, OverflowError, RecursionError):
        pass
    return []


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_problem_is_one_line_with_a_place_and_a_hint(name):
    """A line is `file:line:column: message; hint`; its words are PyYAML's, which can be searched for, or plain ones."""
    for line in EXPECTED[name]:
        message, hint = re.fullmatch(rf"{re.escape(name)}:[1-9]\d*:[1-9]\d*: ([^;]+); (.+)", line).groups()
        assert f"{message}{hint}".isprintable()
        assert len(f"{message}; {hint}") < 180
        words = words_of_pyyaml(name)
        assert all(document.printable(part) in message for part in words)
        for part in words:
            message = message.replace(document.printable(part), "")
        assert not PYTHON_WORDS.search(re.sub(r"the tag \S+|^token|key token|token:", "", f"{message}; {hint}"))


def test_check_lists_every_problem_and_exits_with_78():
    """`etl check` writes the problems to stderr, nothing to stdout, and exits with 78."""
    name = "several.bad.yaml"
    ended = check(name, BROKEN)
    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()) == (78, "", EXPECTED[name])


def test_a_missing_file_is_reported_with_a_hint(tmp_path):
    """A missing file and a folder are named in the problem."""
    missing = tmp_path / "missing.yaml"
    hint = "write one with `etl init`, or name yours with --config FILE"
    assert problems_of(missing) == [f"{missing}:1:1: the file does not exist; {hint}"]
    hint = "check its name, its owner and its mode"
    assert problems_of(tmp_path) == [f"{tmp_path}:1:1: cannot be read: Is a directory; {hint}"]


def test_a_file_over_a_mebibyte_is_refused_unread(tmp_path):
    """A config over 1 MiB is refused by its size."""
    (problem,) = problems_of(written(tmp_path, "#" * (MAX_CONFIG_BYTES + 1)))
    assert ":1:1: larger than 1 MiB; " in problem


@pytest.mark.parametrize("text", ["[", "{", "- ", "? ", "a: [", "{a: "])
def test_a_file_of_brackets_is_refused_before_it_is_nested(text, tmp_path):
    """A mebibyte of opened brackets or list items is refused at the eleventh level; nothing recurses into it."""
    (problem,) = problems_of(written(tmp_path, text * (MEBIBYTE // len(text))))
    assert re.fullmatch(r".+:1:\d{1,2}: nested more than 10 levels deep; a config has four levels", problem)


def test_a_number_in_base_60_of_a_whole_file_is_refused(tmp_path):
    """YAML's 1:30:00 is a number in base 60; one of a mebibyte would take minutes to convert."""
    (problem,) = problems_of(written(tmp_path, "window: " + "1:" * (MEBIBYTE // 2 - 10) + "1"))
    assert ":1:9: this number cannot be read; " in problem


@pytest.mark.parametrize(
    "text",
    [
        "api: {port: '${TOKEN}'}",
        'api: {port: "${TOKEN:-hunter2}"}',
        "window: ${TOKEN}",
        "interval: http://user:hunter2@machine/data",
        "sources: [{name: m, url: 'ftp://user:hunter2@machine/data'}]",
        "sources: [{name: m, url: 'user:hunter2@machine/data'}]",
        "sources: [{name: m, url: 'http://user:a/hunter2@machine/data'}]",
        "sources: [{name: m, url: 'http://user:a@hunter2@machine:x/data'}]",
        "sources: [{name: m, url: 'https//user:hunter2@machine/data'}]",
        "sources: [{name: m, url: 'http://machine:x/data?key=hunter2'}]",
        "sources: [{name: m, url: 'mqtt://machine/data?key=hunter2'}]",
        "sources: [{name: m, file: 'http://user:hunter2@machine/data'}]",
        "sources: http://user:hunter2@machine/data",
        "notify: {url: 'user:hunter2@machine'}",
        "notify: {urls: ['http://user:hunter2@machine:x/', 5]}",
        "notify: {urls: 'https://machine/hunter2'}",
        "sources: [{name: m, url: '${TOKEN}/data'}]",
        "sources: [{name: m, url: 'http://machine', headers: {Authorization: [hunter2]}}]",
        "sources: [{name: m, url: 'http://machine', headers: {Authorization: ' hunter2'}}]",
        "sources: [{name: m, url: 'http://machine', headers: {'X Key': hunter2}}]",
    ],
)
def test_a_problem_shows_no_secret(text, tmp_path):
    """Values from the environment, header values and passwords in addresses do not appear in the messages."""
    problems = problems_of(written(tmp_path, text), {"TOKEN": "hunter2"})
    assert "hunter2" not in "".join(problems).replace(":-hunter2", "")


def test_a_number_from_the_environment_in_quotes_stays_text(tmp_path):
    """A quoted variable is text, so it cannot be a port, whatever its value."""
    (problem,) = problems_of(written(tmp_path, MINIMAL + 'api:\n  port: "${PORT}"'), {"PORT": "5001"})
    assert ':3:9: port cannot be "${PORT}"; ' in problem


@pytest.mark.parametrize("shard", ["8/8", "1", "a/b", "-1/8", "0/0"])
def test_an_impossible_shard_is_refused(tmp_path, shard):
    """A shard is a number below the number of shards."""
    (problem,) = problems_of(written(tmp_path, f"shard: {shard}\nsources: [{{name: a, file: b.json}}]\n"))
    assert f"shard cannot be {shard}" in problem


def test_records_must_be_an_expression(tmp_path):
    """An invalid JMESPath expression is reported at its place."""
    (problem,) = problems_of(written(tmp_path, "sources:\n  - {name: a, file: b.json, records: 'a[['}\n"))
    assert ":2:" in problem
    assert "JMESPath" in problem


def loads_or_explains(file, content):
    """Load a file that may hold anything: either it is a config, or every problem is one line with a place in it."""
    file.write_bytes(content)
    try:
        load(file, {})
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.isprintable()
            line, column = re.match(re.escape(str(file)) + r":(\d+):(\d+): .+; .+", problem).groups()
            assert 1 <= int(line) <= content.count(b"\n") + content.count(b"\r") + content.count(b"\xc2\x85") + 2
            assert 1 <= int(column) <= len(content) + 1


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file that the examples of a property overwrite."""
    return tmp_path_factory.mktemp("fuzz") / "config.yaml"


@given(content=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
@example(content=b'a: "\\U00110000"')
@example(content=b"%YAML " + b"1" * 5000)
@example(content=b"sources: [{name: 190:20:30.15}]")
@example(content=b"window: 0b_")
@example(content=b"sources: &a [*a]")
@example(content=b"window: &a {*a : 1}")
@example(content=b"window: " + b"9" * 400)
@example(content=b"report: {threshold: " + b"9" * 400 + b"}")
@settings(max_examples=300, deadline=None)
def test_any_bytes_load_or_are_explained(scratch, content):
    """Whatever a file holds, the only exception is ConfigError."""
    loads_or_explains(scratch, content)


TOKENS = [
    *"{}[]:,&*#?|-<>=!%@`'\"\\ \n\t\r~.$",
    "- ",
    ": ",
    "\n  ",
    "${",
    "}",
    "!!",
    "<<",
    "0",
    "1e999",
    ".nan",
    "\x85",
    "\ud800",
    "\0",
]


@given(edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 40), st.sampled_from(TOKENS)), max_size=4))
@settings(max_examples=250, deadline=None)
def test_a_damaged_config_loads_or_is_explained(scratch, edits):
    """However the shipped file is damaged, the only exception is ConfigError."""
    text = SHIPPED.read_text()
    for place, length, token in edits:
        text = text[:place] + token + text[place + length :]
    loads_or_explains(scratch, text.encode(errors="surrogatepass"))


@given(
    rest=st.text(max_size=12) | st.lists(st.sampled_from([*"a.-_*@:[]%é/?#\\<１ﬀ", "::1", "80", "x" * 64]), max_size=7)
)
@settings(max_examples=150, deadline=None)
def test_an_accepted_address_can_be_requested(rest, scratch):
    """The HTTP library refuses no address that passes the check."""
    sources = msgspec.json.encode([{"name": "m", "url": "http://" + "".join(rest)}])
    scratch.write_bytes(b"sources: " + sources)
    try:
        url = load(scratch, {}).config.sources[0].url
    except ConfigError:
        return
    requests.Request("GET", url, auth=lambda request: request).prepare()


def test_an_extra_is_installed_from_the_clone(tmp_path, monkeypatch):
    """No index has this program: the hint for a missing extra installs it from the folder of the clone."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    text = MINIMAL + "transport: curl\nreport: {cluster: 'tcp://127.0.0.1:8786'}\nnotify: {url: 'slack://a/b/c'}"
    curl, cluster, apprise = problems_of(written(tmp_path, text))
    assert "transport curl needs pycurl; in the folder of the clone run pip install '.[fleet]'" in curl
    assert "report.cluster needs dask; in the folder of the clone run pip install '.[cluster]'" in cluster
    assert "url needs Apprise for slack://; in the folder of the clone run pip install '.[notify]'" in apprise
    plc = "sources: [{name: m, opcua: 'opc.tcp://plc-1', nodes: {temperature: i=5}}]"
    (asyncua,) = problems_of(written(tmp_path, plc))
    assert "opcua needs asyncua; in the folder of the clone run pip install '.[opcua]'" in asyncua


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("vals(@)", "there is no function vals, did you mean values?"),
        ("machines[].{id: serial, t: to_num(t)}", "there is no function to_num"),
        ("m[?contains(name)]", "contains takes 2 arguments, not 1"),
        ("sort_by(m, &nofunction(x))", "there is no function nofunction"),
    ],
)
def test_a_function_that_fails_at_every_answer_is_refused(tmp_path, expression, words):
    """JMESPath reports an unknown function or a wrong number of arguments only when it is called."""
    (problem,) = problems_of(written(tmp_path, f"sources:\n  - {{name: a, file: b.json, records: '{expression}'}}\n"))
    assert words in problem


@pytest.mark.parametrize(
    "expression",
    [
        *["values(@)", "merge(a, b, c)", "not_null(a, b)", "max_by(m, &t)", "m[?t > `1`].{id: to_string(n)}"],
        *["m[0:3]", "m[::-1].{t: t}", "m[:5] | [?t > `1`]", "m[0]", "m[-1]", "*.m", "!a || b && c", "`[1]`"],
    ],
)
def test_everything_of_jmespath_is_accepted(tmp_path, expression):
    """Functions with any number of arguments, and slices."""
    load(written(tmp_path, f"sources:\n  - {{name: a, file: b.json, records: '{expression}'}}\n"))


def test_a_template_is_checked_by_its_first_and_last_address(tmp_path):
    """{n} may stand in host and port, as long as each address can be used; without count it is a mistake there."""
    text = "sources: [{name: 'm-{n}', url: 'http://m-{n}.plant:80{n}/data', count: %s}]"
    assert load(written(tmp_path, text % 9)).sources[8].url == "http://m-9.plant:809/data"
    (problem,) = problems_of(written(tmp_path, text % 9999))
    assert "its host or port cannot be read" in problem
    (problem,) = problems_of(written(tmp_path, "sources: [{name: m, url: 'http://m-{n}/'}]"))
    assert "it has {n}, but the source has no count" in problem


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), OverflowError("too large\n"), KeyError("x")])
def test_an_error_that_the_checks_did_not_foresee_is_a_problem_of_the_config(tmp_path, monkeypatch, error):
    """Whatever goes wrong while a config is read, it is one line about that file, and no traceback."""
    monkeypatch.setattr(document.Document, "_compose", lambda self: (_ for _ in ()).throw(error))
    (problem,) = problems_of(written(tmp_path, MINIMAL))
    assert f"the config cannot be read: {type(error).__name__}" in problem
