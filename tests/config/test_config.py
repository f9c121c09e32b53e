"""The config: what is accepted and what it means, what is refused and how that is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from zoneinfo import available_timezones

import msgspec
import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.config import load as config
from etl.config.document import ConfigError
from tests.support.configs import ACCEPTED, MINIMAL, SHIPPED, written

ROOT = Path(__file__).parents[2]
BROKEN = Path(__file__).parent
JARGON = re.compile(
    r"`|\$\.|\b(str|int|float|bool|dict|tuple|object|None|NoneType|Error|expected|node|token|mapping)\b"
)


def expected():
    """The lines of expected.txt by file: what `etl check` says of it, in the folder where it lies."""
    lines = defaultdict(list)
    for line in (BROKEN / "expected.txt").read_text().splitlines():
        lines[line.partition(":")[0]].append(line)
    return lines


EXPECTED = expected()


def read(folder, text, **environment):
    """What a config with this text loads as."""
    return config.load(written(folder, text), environment)


def refused(file, environment=None):
    """The problems of a config that cannot be used."""
    with pytest.raises(ConfigError) as error:
        config.load(file, environment or {})
    return error.value.problems


def check(file, cwd, **environment):
    """Run `etl check` on a file as a process of its own."""
    command = [sys.executable, "-m", "etl", "check", "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})


@pytest.mark.parametrize("name", sorted({path.name for path in BROKEN.glob("*.yaml")} | set(EXPECTED)))
def test_a_broken_config_is_told_at_its_line_and_column(name, monkeypatch):
    """Each broken file soon gives exactly the lines that expected.txt pairs it with ("..." stands for any end)."""
    monkeypatch.chdir(BROKEN)
    begun = time.perf_counter()
    problems = refused(Path(name))
    assert time.perf_counter() - begun < 0.5
    assert len(problems) == len(EXPECTED[name])
    for problem, line in zip(problems, EXPECTED[name], strict=True):
        assert problem == line or (line.endswith("...") and problem.startswith(line[:-3]))


def test_a_problem_is_one_line_in_plain_words_and_says_what_to_do():
    """A message is `file:line:column: what; hint`, short and free of the words of programmers."""
    for line in (line for lines in EXPECTED.values() for line in lines):
        said = re.fullmatch(r"[a-z0-9-]+\.bad\.yaml:[1-9]\d*:[1-9]\d*: ([^;]+; .+)", line)[1]
        assert said.isprintable()
        assert len(said) < 160
        assert not JARGON.search(re.sub(r"the tag \S+|^token", "", said))


def test_check_tells_every_problem_and_exits_with_78():
    """`etl check` writes the problems to stderr, nothing to stdout, and exits with 78."""
    name = "several.bad.yaml"
    ended = check(name, BROKEN)
    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()) == (78, "", EXPECTED[name])


def test_a_file_that_is_not_there_is_told_with_a_hint(tmp_path):
    """A missing file and a folder are told by name."""
    missing = tmp_path / "missing.yaml"
    hint = "check its name, its owner and its mode"
    assert refused(missing) == [f"{missing}:1:1: cannot be read: No such file or directory; {hint}"]
    assert refused(tmp_path) == [f"{tmp_path}:1:1: cannot be read: Is a directory; {hint}"]


def test_a_file_over_a_mebibyte_is_refused_unread(tmp_path):
    """A config over 1 MiB is refused by its size."""
    (problem,) = refused(written(tmp_path, "#" * (config.BIGGEST + 1)))
    assert ":1:1: larger than 1 MiB; " in problem


@pytest.mark.parametrize(
    "text",
    [
        "api: {port: '${TOKEN}'}",
        'api: {port: "${TOKEN:-hunter2}"}',
        "window: ${TOKEN}",
        "interval: http://user:hunter2@machine/data",
        "sources: [{name: m, url: 'ftp://user:hunter2@machine/data'}]",
        "sources: [{name: m, url: 'http://machine', headers: {Authorization: [hunter2]}}]",
        "sources: [{name: m, url: 'http://machine', headers: {Authorization: ' hunter2'}}]",
        "sources: [{name: m, url: 'http://machine', headers: {'X Key': hunter2}}]",
    ],
)
def test_a_problem_shows_no_secret(text, tmp_path):
    """What comes from the environment, headers and passwords in addresses stay out of the messages."""
    problems = refused(written(tmp_path, text), {"TOKEN": "hunter2"})
    assert "hunter2" not in "".join(problems).replace(":-hunter2", "")


def test_the_defaults_are_what_the_shipped_file_says(tmp_path):
    """A config of sources alone means the same as the shipped file."""
    assert read(tmp_path, MINIMAL).config == config.load(SHIPPED, {}).config


def test_the_shipped_file_passes_the_check_in_the_zone_of_the_machine():
    """`etl check` accepts the shipped file, and `timezone: local` means the zone of the machine by its name."""
    ended = check("config.yaml", ROOT, TZ="Asia/Kolkata")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Asia/Kolkata" in ended.stdout


def test_the_local_zone_is_resolved_to_a_name(tmp_path):
    """The settings hold the name of a zone, never the word local."""
    assert read(tmp_path, MINIMAL).settings.timezone in available_timezones()
    assert read(tmp_path, MINIMAL + "timezone: Europe/Berlin").settings.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("250ms", 0.25), ("1.5s", 1.5), ("10s", 10), ("2m", 120), ("0.5h", 1800), ("24h", 86_400)],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds, tmp_path):
    """ms, s, m and h are known, with decimals."""
    loaded = read(tmp_path, MINIMAL + f"interval: {text}")
    assert (loaded.config.interval, loaded.settings.interval) == (pytest.approx(seconds), loaded.config.interval)


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"), [("10s", "", 5), ("1s", "", 0.8), ("10s", "8s", 8), ("10s", "250ms", 0.25)]
)
def test_a_poll_has_five_seconds_or_what_its_interval_leaves(interval, timeout, seconds, tmp_path):
    """A timeout is what is written, else 5 s, else 0.8 of a short interval."""
    text = f"interval: {interval}\nsources: [{{name: m, file: m.json, timeout: {timeout}}}]"
    loaded = read(tmp_path, text)
    assert loaded.timeout(loaded.config.sources[0]) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "environment", "host", "port"),
    [
        ("{host: '${HOST}'}", {"HOST": "::1"}, "::1", 5000),
        ("{host: '${HOST:-::1}'}", {}, "::1", 5000),
        ("{host: '${HOST:-::1}'}", {"HOST": ""}, "::1", 5000),
        ("{host: '${A}.${B:-b}.c'}", {"A": "a"}, "a.b.c", 5000),
        ("{host: '${HOST}'}", {"HOST": "17"}, "17", 5000),
        ("{host: '${A}'}", {"A": "${B}", "B": "b"}, "${B}", 5000),
        ("{host: '$HOST'}", {"HOST": "h"}, "$HOST", 5000),
        ("\n  port: ${PORT:-5001}", {}, "127.0.0.1", 5001),
        ("\n  port: ${PORT:-5001}", {"PORT": "5002"}, "127.0.0.1", 5002),
        ("\n  port: 500${LAST}", {"LAST": "3"}, "127.0.0.1", 5003),
    ],
)
def test_variables_come_from_the_environment(text, environment, host, port, tmp_path):
    """${VAR} and ${VAR:-default} are replaced once; unquoted they may be numbers, quoted they are text."""
    api = read(tmp_path, f"{MINIMAL}api: {text}", **environment).config.api
    assert (api.host, api.port) == (host, port)


def test_a_number_from_the_environment_in_quotes_stays_text(tmp_path):
    """A quoted variable is text, and so no port, whatever stands in the environment."""
    (problem,) = refused(written(tmp_path, MINIMAL + 'api:\n  port: "${PORT}"'), {"PORT": "5001"})
    assert ':3:9: port cannot be "${PORT}"; ' in problem


def test_relative_paths_start_at_the_folder_of_the_config(tmp_path):
    """A relative path is resolved from the config's folder, an absolute one is left."""
    loaded = read(tmp_path, MINIMAL)
    assert loaded.path(loaded.config.output.folder) == tmp_path / "output"
    assert loaded.path("../elsewhere") == tmp_path / "../elsewhere"
    assert loaded.path("/elsewhere") == Path("/elsewhere")


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_people_write_is_accepted(text, tmp_path):
    """Byte order marks, Windows line ends, odd names, dates, aliases and empty optional keys are no problem."""
    read(tmp_path, text)


KINDS = (config.Config, config.Source, config.Output, config.Report, config.Api, config.Notify)
KEYS = sorted({field.encode_name for kind in KINDS for field in msgspec.structs.fields(kind)})


def test_every_key_has_a_hint_and_no_other():
    """What to do about a wrong value is known for each key."""
    assert sorted(config.HINTS) == KEYS


def loads_or_tells(file, content):
    """Load a file that may hold anything: either it is a config, or every problem is one line with a place in it."""
    file.write_bytes(content)
    try:
        config.load(file, {})
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.isprintable()
            line, column = re.match(re.escape(str(file)) + r":(\d+):(\d+): .+; .+", problem).groups()
            assert 1 <= int(line) <= content.count(b"\n") + content.count(b"\r") + content.count(b"\xc2\x85") + 2
            assert 1 <= int(column) <= len(content) + 1


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A file to write anything into."""
    return tmp_path_factory.mktemp("fuzz") / "config.yaml"


@given(content=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass")))
@example(content=b'a: "\\U00110000"')
@example(content=b"%YAML " + b"1" * 5000)
@example(content=b"sources: [{name: 190:20:30.15}]")
@example(content=b"window: 0b_")
@example(content=b"sources: &a [*a]")
@example(content=b"window: " + b"9" * 400)
@example(content=b"report: {threshold: " + b"9" * 400 + b"}")
@settings(max_examples=300, deadline=None)
def test_any_bytes_load_or_are_told(scratch, content):
    """Whatever a file holds, a ConfigError is all that comes out."""
    loads_or_tells(scratch, content)


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
def test_a_damaged_config_loads_or_is_told(scratch, edits):
    """However the shipped file is damaged, a ConfigError is all that comes out."""
    text = SHIPPED.read_text()
    for place, length, token in edits:
        text = text[:place] + token + text[place + length :]
    loads_or_tells(scratch, text.encode(errors="surrogatepass"))


@given(
    rest=st.text(max_size=12) | st.lists(st.sampled_from([*"a.-_*@:[]%é/?#\\<１ﬀ", "::1", "80", "x" * 64]), max_size=7)
)
@settings(max_examples=150, deadline=None)
def test_an_address_that_is_accepted_can_be_asked(rest, scratch):
    """No address that passes the check is refused by the HTTP library later."""
    sources = msgspec.json.encode([{"name": "m", "url": "http://" + "".join(rest)}])
    scratch.write_bytes(b"sources: " + sources)
    try:
        url = config.load(scratch, {}).config.sources[0].url
    except ConfigError:
        return
    requests.Request("GET", url, auth=lambda request: request).prepare()


def test_a_template_stands_for_as_many_sources(tmp_path):
    """With count, {n} in name and url runs from 1 to N; names must still be unique."""
    text = "sources:\n  - {name: 'm-{n}', url: 'http://127.0.0.1:1/m/{n}/data', count: 3}\n"
    loaded = config.load(written(tmp_path, text))
    assert [source.name for source in loaded.sources] == ["m-1", "m-2", "m-3"]
    assert loaded.sources[2].url == "http://127.0.0.1:1/m/3/data"
    (problem,) = refused(written(tmp_path, "sources:\n  - {name: m, url: 'http://127.0.0.1:1/', count: 2}\n"))
    assert "name m is taken already" in problem


def test_sources_may_stand_in_a_file_of_their_own(tmp_path):
    """The fleet's file holds the list; a mistake in it is told at its place there."""
    (tmp_path / "fleet.yaml").write_text("- name: a\n  url: http://127.0.0.1:1/\n- name: b\n  url: ftp://127.0.0.1/\n")
    config_file = written(tmp_path, "sources: fleet.yaml\n")
    (problem,) = refused(config_file)
    assert problem.startswith(f"{tmp_path}/fleet.yaml:4:8: url")
    (tmp_path / "fleet.yaml").write_text("- {name: a, url: 'http://127.0.0.1:1/'}\n- {name: b, file: b.json}\n")
    assert [source.name for source in config.load(config_file).sources] == ["a", "b"]
    (tmp_path / "fleet.yaml").unlink()
    (problem,) = refused(config_file)
    assert problem.startswith(f"{tmp_path}/fleet.yaml:1:1: cannot be read")


def names(tmp_path, shard):
    text = f"shard: {shard}\nsources:\n  - {{name: 'm-{{n}}', url: 'http://127.0.0.1:1/{{n}}', count: 1000}}\n"
    return {source.name for source in config.load(written(tmp_path, text)).sources}


def test_shards_share_the_sources_and_a_new_one_takes_only_its_own(tmp_path):
    """Every source is in exactly one shard, the shards are alike, and a further shard moves only what it takes."""
    eight = [names(tmp_path, f"{i}/8") for i in range(8)]
    assert sum(map(len, eight)) == len(set().union(*eight)) == 1000
    assert all(80 < len(share) < 170 for share in eight)
    nine = [names(tmp_path, f"{i}/9") for i in range(9)]
    assert all(nine[i] <= eight[i] for i in range(8))


@pytest.mark.parametrize("shard", ["8/8", "1", "a/b", "-1/8", "0/0"])
def test_a_shard_that_cannot_be_is_refused(tmp_path, shard):
    """A shard is a number below the number of shards."""
    (problem,) = refused(written(tmp_path, f"shard: {shard}\nsources: [{{name: a, file: b.json}}]\n"))
    assert f"shard cannot be {shard}" in problem


def test_records_must_be_an_expression(tmp_path):
    """A JMESPath expression that cannot be read is told at its place."""
    (problem,) = refused(written(tmp_path, "sources:\n  - {name: a, file: b.json, records: 'a[['}\n"))
    assert ":2:" in problem
    assert "JMESPath" in problem
