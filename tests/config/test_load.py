"""What a config means: defaults, variables, paths, templates, fleets and shards."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from zoneinfo import available_timezones

import msgspec
import pytest

from etl.config.load import load
from etl.config.model import HINTS, Alarm, Api, Config, Notify, Output, Report
from etl.config.schema import groups
from etl.config.sources.kinds import KINDS, any_kind
from tests.support.configs import ACCEPTED, MINIMAL, ROOT, SHIPPED, check, load_text, problems_of, written

README = ROOT / "etl" / "config" / "README.md"


def test_the_defaults_are_those_of_the_shipped_file(tmp_path):
    """A config of sources and units alone means the same as the shipped file."""
    units = "units: {temperature: °C, speed: rpm}\n"
    assert load_text(tmp_path, MINIMAL + units).config == load(SHIPPED, {}).config


def test_units_are_no_part_of_the_settings(tmp_path):
    """Units stay in the config: the settings, which govern data lines, are the same with and without them."""
    with_units, without = (load_text(tmp_path, MINIMAL + units) for units in ("units: {speed: '%'}\n", ""))
    assert (with_units.config.units, without.config.units) == ({"speed": "%"}, {})
    assert with_units.settings == without.settings


def test_the_shipped_file_passes_the_check_in_the_zone_of_the_machine():
    """`etl check` accepts the shipped file, and `timezone: local` means the zone of the machine by its name."""
    ended = check("config.yaml", ROOT, TZ="Asia/Kolkata")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Asia/Kolkata" in ended.stdout


def test_the_local_zone_is_resolved_to_a_name(tmp_path):
    """The settings hold the name of a zone, never the word local."""
    assert load_text(tmp_path, MINIMAL).settings.timezone in available_timezones()
    assert load_text(tmp_path, MINIMAL + "timezone: Europe/Berlin").settings.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("100ms", 0.1), ("250ms", 0.25), ("1.5s", 1.5), ("10s", 10), ("2m", 120), ("0.5h", 1800), ("24h", 86_400)],
)
def test_a_duration_is_a_number_and_a_unit(text, seconds, tmp_path):
    """The units are ms, s, m and h; decimals are allowed."""
    loaded = load_text(tmp_path, MINIMAL + f"interval: {text}")
    assert (loaded.config.interval, loaded.settings.interval) == (pytest.approx(seconds), loaded.config.interval)


@pytest.mark.parametrize(
    ("interval", "timeout", "seconds"), [("10s", "", 5), ("1s", "", 0.8), ("10s", "8s", 8), ("10s", "250ms", 0.25)]
)
def test_a_timeout_defaults_to_five_seconds_or_0_8_of_the_interval(interval, timeout, seconds, tmp_path):
    """The deadline of a poll is the timeout in the file, else 5 s, or 0.8 of an interval below 6.25 s."""
    text = f"interval: {interval}\nsources: [{{name: m, file: m.json, timeout: {timeout}}}]"
    loaded = load_text(tmp_path, text)
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
    api = load_text(tmp_path, f"{MINIMAL}api: {text}", **environment).config.api
    assert (api.host, api.port) == (host, port)


def test_relative_paths_start_at_the_folder_of_the_config(tmp_path):
    """A relative path starts at the config's folder; an absolute path is unchanged."""
    loaded = load_text(tmp_path, MINIMAL)
    assert loaded.path(loaded.config.output.folder) == tmp_path / "output"
    assert loaded.path("../elsewhere") == tmp_path / "../elsewhere"
    assert loaded.path("/elsewhere") == Path("/elsewhere")


@pytest.mark.parametrize("text", ACCEPTED)
def test_unusual_files_are_accepted(text, tmp_path):
    """Byte order marks, Windows line ends, odd names, dates, aliases and empty optional keys load."""
    load_text(tmp_path, text)


GROUPS = {
    "": Config,
    "sources": any_kind(),
    "alarms": Alarm,
    "output": Output,
    "report": Report,
    "api": Api,
    "notify": Notify,
}


def test_every_key_has_a_hint_and_no_other():
    """HINTS says what to write for each key; each kind of source, and each struct in one, has hints of its own."""
    keys = {field.encode_name for group in groups(Config) for field in msgspec.structs.fields(group)}
    assert set(HINTS) == keys - {"name"} | {"alarms.name", "alarms.sources"}
    for group in itertools.chain.from_iterable(map(groups, KINDS.values())):
        assert set(group.hints) == {field.encode_name for field in msgspec.structs.fields(group)}


def test_every_key_is_documented_and_no_other():
    """The tables of the room's README list exactly the keys there are, written as `interval` or `output: folder`."""
    cells = [line.split(" | ")[0] for line in README.read_text().splitlines() if line.startswith("| `")]
    documented = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
    keys = {
        f"{group}: {field.encode_name}" if group else field.encode_name
        for group, kind in GROUPS.items()
        for field in msgspec.structs.fields(kind)
    }
    assert sorted(documented) == sorted(keys - {"alarms", "output", "report", "api", "notify"})


def test_a_template_expands_to_count_sources(tmp_path):
    """With count, {n} in name and url runs from 1 to N; names must still be unique."""
    text = "sources:\n  - {name: 'm-{n}', url: 'http://127.0.0.1:1/m/{n}/data', count: 3}\n"
    loaded = load_text(tmp_path, text)
    assert [source.name for source in loaded.sources] == ["m-1", "m-2", "m-3"]
    assert loaded.sources[2].url == "http://127.0.0.1:1/m/3/data"
    (problem,) = problems_of(written(tmp_path, "sources:\n  - {name: m, url: 'http://127.0.0.1:1/', count: 2}\n"))
    assert "the name m occurs twice" in problem


def test_sources_may_be_listed_in_another_file(tmp_path):
    """A fleet file holds the list of sources; a problem in it names that file and the place there."""
    (tmp_path / "fleet.yaml").write_text("- name: a\n  url: http://127.0.0.1:1/\n- name: b\n  url: ftp://127.0.0.1/\n")
    config_file = written(tmp_path, "sources: fleet.yaml\n")
    (problem,) = problems_of(config_file)
    assert problem.startswith(f"{tmp_path}/fleet.yaml:4:8: url")
    (tmp_path / "fleet.yaml").write_text("- {name: a, url: 'http://127.0.0.1:1/'}\n- {name: b, file: b.json}\n")
    assert [source.name for source in load(config_file).sources] == ["a", "b"]
    (tmp_path / "fleet.yaml").unlink()
    (problem,) = problems_of(config_file)
    hint = f"create it, or correct sources in {config_file}"
    assert problem == f"{tmp_path}/fleet.yaml:1:1: the file does not exist; {hint}"


def names(tmp_path, shard):
    """The names of the sources of a shard, of 1,000."""
    text = f"shard: {shard}\nsources:\n  - {{name: 'm-{{n}}', url: 'http://127.0.0.1:1/{{n}}', count: 1000}}\n"
    return {source.name for source in load_text(tmp_path, text).sources}


def test_shards_partition_the_sources_and_a_new_shard_moves_only_its_own(tmp_path):
    """Each source is in one shard, shards are of similar size, and an additional shard moves only what it takes."""
    eight = [names(tmp_path, f"{i}/8") for i in range(8)]
    assert sum(map(len, eight)) == len(set().union(*eight)) == 1000
    assert all(80 < len(share) < 170 for share in eight)
    nine = [names(tmp_path, f"{i}/9") for i in range(9)]
    assert all(nine[i] <= eight[i] for i in range(8))


def test_a_fleet_of_ten_thousand_loads_with_either_parser(tmp_path, monkeypatch):
    """A fleet file of 10,000 sources gives each of them."""
    fleet = "".join(f"- name: press-{n}\n  url: http://10.0.{n // 250}.{n % 250}/data\n" for n in range(10_000))
    (tmp_path / "fleet.yaml").write_text(fleet)
    sources = load_text(tmp_path, "sources: fleet.yaml\n").sources
    assert len({source.url for source in sources}) == 10_000


@pytest.mark.parametrize("document", ["README.md", "etl/config/README.md"])
def test_the_examples_of_the_documents_load(document, tmp_path):
    """Each config that a document shows is accepted."""
    for example in re.findall(r"^```yaml\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL):
        load_text(tmp_path, example)
