"""`etl verify` and `etl rebuild`: whatever does not follow from the raw log is found, named and derived again."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from itertools import count

import orjson
import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.audit import rebuild as rebuilding
from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.config import load as config
from etl.nightly.report import encode, make_report, write_report
from etl.readings.lines import raw_line
from etl.readings.records import Settings
from etl.storage.derivation import Derivation
from etl.storage.folder import Folder
from etl.storage.lock import is_held
from etl.storage.retention import compress, delete_old
from etl.storage.settings_log import SettingsLog
from tests.support import commands
from tests.support.plant import FIXTURE, Plant
from tests.support.process import Site, end, until

MIDNIGHT = 1_795_392_000.0
"""2026-11-23T00:00:00Z."""
FIELDS = {"temperature": "temperature", "speed": "fan_speed"}
FIVE = Settings(5, FIELDS, "UTC", 10.0, 0.2)

anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Past:
    """A folder of four days with restarts, changed settings, gaps, and reports of the first three days."""

    def __init__(self, root) -> None:
        self.folder = Folder(root / "output")
        self.settings = config.load(root / "config.yaml").settings

    def bytes_of(self, kind: str) -> dict[str, bytes]:
        return {day: self.folder.path(kind, day).read_bytes() for day in self.folder.days(kind)}


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """What a process has made of the history of `Past`."""
    here = Plant(tmp_path_factory.mktemp("lived"), MIDNIGHT - 50)
    here.tick(8)
    here.config["window"] = 3
    here.open()
    here.tick(4)
    here.clock.now = MIDNIGHT + 86_400 - 30
    here.config["report"] = {"threshold": 0.02}
    here.open()
    here.tick(5)
    here.config["parameters"] = {"speed": "fan_speed", "temperature": "temperature"}
    here.open()
    here.tick(2)
    here.clock.now = MIDNIGHT + 2 * 86_400 + 400
    here.night()
    here.tick(3)
    here.config["parameters"] = {"speed": "fan_speed", "heat": "temperature"}
    here.open()
    here.tick(3)
    here.close()
    assert here.folder.reports() == here.folder.days("averages")[:3] == ["2026-11-22", "2026-11-23", "2026-11-24"]
    return here.root


@pytest.fixture
def past(lived, tmp_path_factory):
    """Build copies of that folder."""
    return lambda: Past(shutil.copytree(lived, tmp_path_factory.mktemp("past") / "copy", symlinks=True))


def prove(here, unreported=(), *, running=False):
    """The wrong findings, the notes, and the summary."""
    proof = Proof(here.folder, here.settings, list(unreported), lambda _: running)
    findings = list(proof.findings())
    texts = [finding.text.removeprefix(f"{here.folder.root}/") for finding in findings]
    wrong = [text for text, finding in zip(texts, findings, strict=True) if finding.wrong]
    return wrong, [text for text in texts if text not in wrong], proof.summary()


def redo(here, *, keep=False, unreported=()):
    """Rebuild; the lines about changes, and the events."""
    told = []
    lines = list(
        rebuild(
            SettingsLog(here.folder, here.settings), list(unreported), keep, lambda event, **more: told.append(event)
        )
    )
    return [line.removeprefix(f"{here.folder.root}/") for line in lines], told


def state(here):
    """The bytes of everything that is derived."""
    return here.bytes_of("averages"), {day: here.folder.report_path(day).read_bytes() for day in here.folder.reports()}


def small(root, lines=4, machines=1, report=True):
    """Make a folder of one closed day by hand, without a process."""
    folder = Folder(root)
    for kind in ("raw", "averages", "reports"):
        (root / kind).mkdir(parents=True)
    readings = [
        raw_line({"id": i % machines, "temperature": 20.25 + i * i, "fan_speed": 100}, "m", MIDNIGHT + 10 * i)
        for i in range(lines)
    ]
    folder.path("raw", "2026-11-23").write_bytes(b"".join(readings))
    averages = Derivation(SettingsLog(folder, FIVE)).day("2026-11-23")
    folder.path("averages", "2026-11-23").write_bytes(b"".join(averages))
    if report:
        write_report(SettingsLog(folder, FIVE), "2026-11-23")
    return folder


def wrong_in(folder, *, running=False):
    return [finding.text for finding in Proof(folder, FIVE, [], lambda _: running).findings() if finding.wrong]


def test_a_folder_with_restarts_and_changed_settings_is_sound(past):
    """After restarts and changed settings everything follows from the raw log; gaps are notes."""
    wrong, told, summary = prove(past())
    assert wrong == []
    assert summary == "4 days, 25 raw lines, 25 averages lines, 3 reports checked: sound"
    assert [re.sub(r".* for (.* s), .*", r"\1", text) for text in told] == ["86,310.0 s", "86,770.0 s"]
    assert told[0].startswith(
        "raw/2026-11-23.jsonl:8: no reading of any source for 86,310.0 s, since 2026-11-23T00:01:00.000Z"
    )


def test_parameters_in_another_order_are_other_parameters(plant):
    """Averages follow the order of the config: a change of it is an entry, and every window starts over."""
    here = plant()
    here.tick(2)
    here.config["parameters"] = FIELDS  # as YAML in the order of the alphabet
    here.open()
    here.tick(2)
    assert [(entry.line, *entry.settings.parameters) for entry in SettingsLog(here.folder, FIVE).entries] == [
        (1, "temperature", "speed"),
        (3, "speed", "temperature"),
    ]
    here.settings = here.loaded.settings
    assert prove(here)[0] == []


def test_every_changed_byte_of_the_averages_is_found(tmp_path):
    """Each single byte, changed, is one wrong line, named by its number with what was expected and found."""
    folder = small(tmp_path, report=False)
    path = folder.path("averages", "2026-11-23")
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        found = wrong_in(folder)
        assert found, byte
        line = whole.count(b"\n", 0, byte) + 1
        assert found[0].startswith((f"{path}:{line}: ", f"{path}: 1 lines at the end are missing or torn"))


def test_every_cut_of_the_averages_is_found(tmp_path):
    """Cut at any byte, the averages lack their last lines, unless a process is just writing them."""
    folder = small(tmp_path, report=False)
    path = folder.path("averages", "2026-11-23")
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        (found,) = wrong_in(folder)
        left = 4 - whole.count(b"\n", 0, size)
        assert found.startswith(f"{path}: {left} lines at the end are missing or torn")
        assert wrong_in(folder, running=True) == []
    path.unlink()
    assert wrong_in(folder)[0].startswith(f"{path}: 4 lines at the end are missing")


@pytest.mark.parametrize("line", range(3))
def test_a_doubled_or_lost_line_is_found_where_it_is(tmp_path, line):
    """Where a line is doubled or lost, the lines differ from there on, and at the end there is one too many or few."""
    folder = small(tmp_path)
    path = folder.path("averages", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: line + 1], *lines[line:]]))
    found = wrong_in(folder)
    assert found[0].startswith(f"{path}:{line + 2}: timestamp is ")
    assert found[-1] == f"{path}: 1 lines at the end are surplus"
    path.write_bytes(b"".join([*lines[:line], *lines[line + 1 :]]))
    found = wrong_in(folder)
    assert found[0].startswith(f"{path}:{line + 1}: timestamp is ")
    assert found[-1].startswith(f"{path}: 1 lines at the end are missing")


def test_a_line_that_is_no_json_or_written_differently_is_shown(tmp_path):
    """Where no key differs, the finding shows the line itself, shortened and safe on a terminal."""
    folder = small(tmp_path)
    path = folder.path("averages", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"\x1b[31m\xff" + b"x" * 900 + b"\n", lines[1].replace(b":", b": ", 1), *lines[2:]]))
    broken, spaced = wrong_in(folder)
    assert broken.startswith(rf"{path}:1: it is b'\x1b[31m\xffxxx")
    assert len(broken) < len(str(path)) + 500
    assert spaced.startswith(f'{path}:2: it is b\'{{"timestamp": ')


def test_many_differences_are_counted(tmp_path):
    """The first few of a day are findings of their own, the others are counted, and missing lines come last."""
    folder = small(tmp_path, lines=50)
    path = folder.path("averages", "2026-11-23")
    path.write_bytes(path.read_bytes().replace(b'"source":"m"', b'"source":"n"')[:-2])
    proof = Proof(folder, FIVE, [], lambda _: False)
    findings = list(proof.findings())
    assert len(findings) == 7
    assert findings[0].text == f'{path}:1: source is "n", expected "m"'
    assert findings[5] == ("... and 44 more", 44)
    assert findings[6].text.startswith(f"{path}: 1 lines at the end are missing or torn")
    assert proof.summary().endswith("1 reports checked: 50 wrong")


@settings(anew, max_examples=50)
@given(line=st.integers(0, 24), field=st.sampled_from(["temperature", "fan_speed", "timestamp", "_polled_at", "id"]))
def test_a_changed_reading_is_found_by_what_was_derived_from_it(past, line, field):
    """A figure changed in the raw log does not match the averages and the report of its day."""
    here = past()
    raws = [(day, i) for day in here.folder.days("raw") for i in range(here.folder.count("raw", day))]
    day, number = raws[line]
    path = here.folder.path("raw", day)
    lines = [orjson.loads(text) for text in path.read_bytes().splitlines()]
    value = lines[number][field]
    lines[number][field] = value + 1 if isinstance(value, float | int) else value.replace("00", "01")
    path.write_bytes(b"".join(orjson.dumps(text) + b"\n" for text in lines))
    wrong, _, summary = prove(here)
    assert any(text.startswith(f"averages/{day}.jsonl:{number + 1}: ") for text in wrong)
    assert f"{len(wrong)} wrong" in summary or " more" in str(wrong)


@pytest.mark.parametrize(
    "line",
    [
        b"{}\n",
        b"\n",
        b"\0" * 4096 + b"\n",
        b'{"a":\n',
        b'{"_source":"m","_polled_at":"x"}\n',
        b'{"_source":"m","_polled_at":"2026-11-23T00:00:00"}\n',
    ],
)
def test_a_damaged_raw_line_is_named(tmp_path, line):
    """A line of the raw log that does not decode is wrong, named by its number; what follows it is still checked."""
    folder = small(tmp_path, report=False)
    path = folder.path("raw", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    (found,) = wrong_in(folder)
    assert found.startswith(f"{path}:3: the line is damaged: ")
    path.write_bytes(b"".join(lines).replace(b'"id":0,', b'"id":0,"x":"\xff",', 1))
    (found,) = wrong_in(folder)
    assert found.startswith(f"{path}:1: 'utf-8'")


def test_integers_of_any_size_have_an_averages_line(tmp_path):
    """A raw line made by hand, with integers that no machine can have sent, is read, averaged and proved like any."""
    folder = small(tmp_path)
    folder.report_path("2026-11-23").unlink()
    with folder.path("raw", "2026-11-23").open("ab") as file:
        file.write(b'{"id":%d,"timestamp":%d,"_source":"m","_polled_at":"2026-11-23T01:00:00Z"}\n' % (10**30, 10**40))
    (found,) = wrong_in(folder)
    assert "1 lines at the end are missing" in found
    list(rebuild(SettingsLog(folder, FIVE), [], False, lambda *_, **__: None))
    assert wrong_in(folder) == []


def test_a_torn_end_of_the_raw_log_is_wrong_unless_it_is_being_written(tmp_path):
    """Where no process is writing, a last raw line that is not whole is wrong, and the finding says what cuts it."""
    folder = small(tmp_path)
    with folder.path("raw", "2026-11-23").open("ab") as file:
        file.write(b'{"temperature":')
    (found,) = wrong_in(folder)
    assert "2026-11-23.jsonl:5: the line is torn" in found
    assert "`etl rebuild`" in found
    assert wrong_in(folder, running=True) == []
    with folder.path("averages", "2026-11-23").open("ab") as file:
        file.write(b'{"timestamp":')
    assert "1 lines at the end are surplus" in wrong_in(folder, running=True)[0]


def leaves(value, path=()):
    """The places of all plain values in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path


def dicts(value, path=()):
    """The places of all objects in a JSON value."""
    if isinstance(value, dict):
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from dicts(value[key], (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def other(value):
    """A JSON value that is nearly the same."""
    if isinstance(value, float):
        return value * (1 + 2**-52) or 5e-324
    return value + 1 if isinstance(value, int) else f"{value}x"


@pytest.fixture
def reported(tmp_path):
    """A function that writes a changed report into a folder and returns what is wrong with it."""
    folder = small(tmp_path, lines=9, machines=2)
    path = folder.report_path("2026-11-23")

    def found(change):
        report = orjson.loads(encode(make_report(SettingsLog(folder, FIVE), "2026-11-23")))
        change(report)
        path.write_bytes(orjson.dumps(report))
        return [text.removeprefix(f"{path}: ") for text in wrong_in(folder)]

    found.report = orjson.loads(path.read_bytes())
    return found


def test_every_changed_figure_of_a_report_is_found(reported):
    """Each value of the contract's keys, changed by as little as can be, removed, or turned around, is wrong."""
    for path in leaves(reported.report):

        def change(report, path=path):
            at(report, path[:-1])[path[-1]] = other(at(report, path))

        def remove(report, path=path):
            del at(report, path[:-1])[path[-1]]

        def empty(report, path=path):
            at(report, path[:-1])[path[-1]] = [at(report, path)]

        assert reported(change), path
        assert reported(remove), path
        assert reported(empty), path
    assert len(list(leaves(reported.report))) > 40


def test_further_keys_may_stand_beside_those_of_the_contract(reported):
    """A key that is not the contract's is fine anywhere in a report, but not in an anomaly."""
    for path in dicts(reported.report):
        found = reported(lambda report, path=path: at(report, path).update(more={"x": [1]}))
        assert bool(found) == ("anomalies" in path), path
        if found:
            assert re.match(r"machines\[\d\]\.parameters\.\w+\.anomalies\[\d\]\.more is surplus", found[0])


TEMPERATURE = "machines[0].parameters.temperature"


def test_a_report_with_other_machines_or_anomalies_is_wrong(reported):
    """Machines and anomalies that are missing, surplus or in another order are named."""
    changes = {
        "machines[0].id is 1, expected 0": lambda r: r["machines"].reverse(),
        "machines has 1 items, expected 2": lambda r: r["machines"].pop(),
        "machines has 3 items, expected 2": lambda r: r["machines"].append(r["machines"][0]),
        f"{TEMPERATURE}.anomalies[0].timestamp is ": lambda r: temperatures(r).reverse(),
        f"{TEMPERATURE}.anomalies has 3 items, expected 4": lambda r: temperatures(r).pop(),
        f"{TEMPERATURE}.anomalies has 5 items, expected 4": lambda r: temperatures(r).append(temperatures(r)[0]),
        f"{TEMPERATURE}.anomalies is null, expected a list": lambda r: figures(r).update(anomalies=None),
        f"{TEMPERATURE}.average is null, expected 44.25": lambda r: figures(r).update(average=None),
        f"{TEMPERATURE} is missing": lambda r: r["machines"][0]["parameters"].pop("temperature"),
        "machines[0].id is false, expected 0": lambda r: r["machines"][0].update(id=False),
        'date is "2026-11-24", expected "2026-11-23"': lambda r: r.update(date="2026-11-24"),
    }
    for what, change in changes.items():
        assert reported(change)[0].startswith(what)


def figures(report):
    return report["machines"][0]["parameters"]["temperature"]


def temperatures(report):
    return figures(report)["anomalies"]


def test_a_report_written_anew_with_the_same_values_is_sound(reported):
    """Only values count: their layout, and 100 for 100.0, do not matter."""

    def change(report):
        for machine in report["machines"]:
            machine["parameters"]["speed"]["average"] = 100

    assert reported(change) == []


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"date":"2026-11-23"}', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_report_is_wrong(tmp_path, text):
    """A report that cannot be read, is not JSON, or lacks keys of the contract, is wrong."""
    folder = small(tmp_path)
    folder.report_path("2026-11-23").write_bytes(text)
    found = wrong_in(folder)
    assert found
    assert all(line.startswith(f"{folder.report_path('2026-11-23')}: ") for line in found)


def test_averages_missing_between_others_are_wrong(past):
    """A day without averages is wrong where older ones exist; else keep_days deleted it, which is a note."""
    here = past()
    here.folder.path("averages", "2026-11-23").unlink()
    wrong, _, summary = prove(here)
    assert wrong == [
        "averages/2026-11-23.jsonl: 10 lines at the end are missing or torn; `etl rebuild` derives them anew"
    ]
    assert summary.endswith(": 10 wrong")
    here.folder.path("averages", "2026-11-22").unlink()
    wrong, told, _ = prove(here)
    assert wrong == []
    assert [text for text in told if "keep_days" in text] == [
        f"averages/2026-11-{day}.jsonl: is gone, as output.keep_days deletes it first" for day in (22, 23)
    ]


def test_what_keep_days_and_compress_leave_is_sound(past):
    """Compressed days are checked, and deleted ones are notes."""
    here = past()
    averages = here.bytes_of("averages")
    delete_old(SettingsLog(here.folder, here.settings), "2026-11-25", 1)
    assert (here.folder.days("raw")[0], here.folder.days("averages")[0]) == ("2026-11-23", "2026-11-24")
    compress(here.folder, lambda: False)
    wrong, told, summary = prove(here)
    assert wrong == []
    assert summary == "3 days, 20 raw lines, 10 averages lines, 2 reports checked: sound"
    assert "reports: 1 days from 2026-11-22 to 2026-11-22 have no raw log, so nothing proves them" in told
    assert redo(here, keep=True)[0] == ["2 days of averages were right already", "2 reports were right already"]
    assert "2026-11-23" not in here.folder.days("averages")
    assert here.folder.path("averages", "2026-11-25").read_bytes() == averages["2026-11-25"]


def test_a_damaged_compressed_file_is_wrong_and_the_walk_goes_on(past):
    """A compressed file that ends too early or is broken is named, and the days after it are still checked."""
    here = past()
    compress(here.folder, lambda: False)
    whole = {kind: here.folder.packed_path(kind, "2026-11-23").read_bytes() for kind in ("raw", "averages")}
    for kind, data in whole.items():
        path = here.folder.packed_path(kind, "2026-11-23")
        for damaged in (data[:-9], data[:60] + b"XXXX" + data[64:], b"no gzip"):
            path.write_bytes(damaged)
            wrong, _, summary = prove(here)
            assert wrong[0].startswith(f"{kind}/2026-11-23.jsonl: cannot be read: ")
            assert summary.startswith("4 days")
        path.write_bytes(data)
    assert prove(here)[0] == []


def test_the_unfinished_end_beside_a_process_may_span_midnight(past):
    """While a process writes, averages may lack their end over any days, but no line before it."""
    here = past()
    path = here.folder.path("averages", "2026-11-24")
    os.truncate(path, path.stat().st_size - 100)
    assert prove(here, running=True)[0][0].startswith("averages/2026-11-24.jsonl: 1 lines at the end are")
    here.folder.path("averages", "2026-11-25").unlink()
    assert prove(here, running=True)[0] == []
    assert len(prove(here)[0]) == 2


def test_what_is_written_after_the_walk_began_is_not_looked_at(tmp_path):
    """However much a process writes meanwhile, nothing that is looked at seems to lack its reason."""
    written = count()

    class Busy(Folder):
        """A folder that another process writes to whenever it is looked at."""

        def days(self, kind):
            self.write()
            return super().days(kind)

        def write(self):
            for _ in range(3):
                n = next(written)
                day = f"2026-11-{23 + n // 50}"
                reading = raw_line({"id": 1, "temperature": n}, "m", MIDNIGHT + n)
                for kind, lines in (("raw", [reading]), ("averages", fold.fold(day, iter([reading])))):
                    with self.path(kind, day).open("ab") as file:
                        file.writelines(lines)

    folder = Busy(tmp_path)
    for kind in ("raw", "averages"):
        (tmp_path / kind).mkdir()
    fold = Derivation(SettingsLog(folder, FIVE))
    folder.write()
    for _ in range(40):
        assert wrong_in(folder, running=True) == []
    assert len(folder.days("raw")) > 3


def test_lines_added_after_the_walk_began_are_left_for_the_next(tmp_path):
    """What stood in the folder when the walk began is proved, whatever is appended before it comes there."""
    folder = small(tmp_path)
    proof = Proof(folder, FIVE, [], lambda _: False)
    for kind in ("raw", "averages"):
        with folder.path(kind, "2026-11-23").open("ab") as file:
            file.write(b"{}\n{")
    assert not any(finding.wrong for finding in proof.findings())
    assert proof.counts["raw lines"] == proof.counts["averages lines"] == 4


def test_what_is_not_wrong_but_worth_knowing_is_a_note(past):
    """Closed days without a report, torn lines kept aside and averages or reports without a raw log are not wrong."""
    here = past()
    here.folder.report_path("2026-11-23").unlink()
    (here.folder.root / "raw" / "2026-11-23.jsonl.torn").write_bytes(b'{"torn":\n')
    here.folder.path("raw", "2026-11-22").unlink()
    here.folder.settings_path.write_bytes(
        b"".join(here.folder.settings_path.read_bytes().splitlines(keepends=True)[1:])
    )
    wrong, told, _ = prove(here, ["2026-11-23"])
    here.folder.report_path("2026-11-22").write_bytes(b"{")
    assert any(text.startswith("reports/2026-11-22.json: cannot be read: ") for text in prove(here)[0])
    assert not any("2026-11-22" in text for text in wrong)
    expected = [
        "averages: 1 days from 2026-11-22 to 2026-11-22 have no raw log, so nothing proves them",
        "reports: 1 days from 2026-11-22 to 2026-11-22 have no raw log, so nothing proves them",
        "reports/2026-11-23.json: the day is closed and has no report yet; `etl report` makes it",
        "raw/2026-11-23.jsonl.torn: keeps torn lines that were cut off, 9 bytes",
    ]
    assert [text for text in told if "no reading" not in text] == expected


def test_a_report_newer_than_every_reading_is_wrong(past):
    """A report of a day after the newest raw log would send new readings to the day after it."""
    here = past()
    shutil.copy(here.folder.report_path("2026-11-24"), here.folder.report_path("2030-01-01"))
    (wrong,) = prove(here)[0]
    assert wrong.startswith("reports/2030-01-01.json: no reading is as new; ")


def test_a_damaged_line_of_the_settings_is_named(past):
    """An entry that cannot be read is wrong, since everything is derived without it; an unfinished one may be."""
    here = past()
    whole = here.folder.settings_path.read_bytes()
    here.folder.settings_path.write_bytes(whole.replace(b'"window":3', b'"window":"', 1))
    assert prove(here)[0][0].startswith("settings.jsonl:2: the line is damaged: ")
    here.folder.settings_path.write_bytes(whole.replace(b'"interval":10.0', b'"interval":00.0', 1))
    assert prove(here)[0][0].startswith("settings.jsonl:1: the line is damaged: ")
    here.folder.settings_path.write_bytes(whole.replace(b'"window":3', b'"window":0', 1))
    assert "settings.jsonl:2: the line is damaged: Expected `int` >= 1" in prove(here)[0][0]
    here.folder.settings_path.write_bytes(whole + b'{"day":')
    assert prove(here, running=True)[0] == []
    assert prove(here)[0][0].startswith("settings.jsonl:6: ")
    here.folder.settings_path.write_bytes(whole.replace(b'"UTC"', b'"Utopia"'))
    assert any("No time zone found with key Utopia" in text for text in prove(here)[0])


def test_without_a_raw_log_there_is_nothing_to_prove(tmp_path):
    """A folder that is missing, or has no raw log, is one finding with a hint."""
    (found,) = wrong_in(Folder(tmp_path / "none"))
    assert found == f"{tmp_path / 'none'}: there is no such folder; is it output.folder?"
    (found,) = wrong_in(Folder(tmp_path))
    assert found == f"{tmp_path}: there is no raw log; is it output.folder?"


damages = st.tuples(
    st.sampled_from(["averages", "reports"]),
    st.integers(0, 3),
    st.sampled_from(["cut", "change", "double", "delete"]),
    st.integers(0, 10**6),
)


def damage(here, kind, index, how, byte):
    paths = [
        here.folder.path(kind, day) if kind == "averages" else here.folder.report_path(day)
        for day in ("2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25")
    ]
    path = paths[index]
    if not path.exists():
        return
    data = path.read_bytes()
    byte %= max(1, len(data))
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:byte])
    elif how == "double":
        path.write_bytes(data + data[:byte])
    else:
        path.write_bytes(data[:byte] + b"9" + data[byte + 1 :])


@settings(anew, max_examples=30)
@given(st.lists(damages, min_size=1, max_size=4))
def test_rebuild_makes_any_damaged_folder_what_it_was(past, hurts):
    """Whatever was done to averages and reports, they have their bytes again; every change is an event."""
    here = past()
    before = state(here)
    for hurt in hurts:
        damage(here, *hurt)
    changed = state(here) != before
    lines, told = redo(here, unreported=["2026-11-22", "2026-11-23", "2026-11-24"])
    assert state(here) == before
    assert bool(told) == (len(lines) > 2) == changed
    assert prove(here)[0] == []
    assert redo(here) == (["4 days of averages were right already", "3 reports were right already"], [])
    assert not [path for path in here.folder.root.rglob("*") if path.suffix == ".tmp"]


def test_rebuild_cuts_a_torn_raw_end_and_keeps_it(past):
    """A torn raw line of any day goes to `*.torn`, and with it what followed from it."""
    here = past()
    for day in ("2026-11-23", "2026-11-25"):
        path = here.folder.path("raw", day)
        os.truncate(path, path.stat().st_size - 20)
    _, told = redo(here)
    assert told.count("repaired") == 5  # two raw ends, and the averages of three days
    assert prove(here)[0] == []
    assert len(list(here.folder.root.glob("raw/*.torn"))) == 2


def test_rebuild_derives_compressed_days_too(past):
    """A plain file replaces wrong averages in a compressed one; a broken raw log is left alone and named."""
    here = past()
    before = state(here)
    compress(here.folder, lambda: False)
    packed = here.folder.packed_path("averages", "2026-11-23")
    packed.write_bytes(gzip.compress(before[0]["2026-11-23"][:-300]))
    damaged = here.folder.packed_path("averages", "2026-11-22")
    damaged.write_bytes(damaged.read_bytes()[:40])
    lines, _ = redo(here)
    assert [line for line in lines if "anew" in line] == [
        f"averages/2026-11-{day}.jsonl: derived anew" for day in (22, 23)
    ]
    assert here.folder.path("averages", "2026-11-22").read_bytes() == before[0]["2026-11-22"]
    assert here.folder.path("averages", "2026-11-23").read_bytes() == before[0]["2026-11-23"]
    assert not packed.exists()
    assert prove(here)[0] == []
    here.folder.packed_path("raw", "2026-11-24").write_bytes(b"no gzip")
    lines, _ = redo(here)
    assert any("2026-11-24.jsonl.gz: left alone with its averages" in line for line in lines)
    assert any("reports/2026-11-24.json: cannot be made anew" in line for line in lines)


def test_rebuild_interrupted_leaves_each_day_whole(past, monkeypatch):
    """Ended at any of its writes, each averages file is as it was or done; the next call finishes."""
    here = past()
    before = state(here)
    for fail_at in count(1):
        for day in here.folder.days("averages"):
            os.truncate(here.folder.path("averages", day), 40)
        broken = state(here)[0]
        calls = count(1)

        def fsync(fd, real=os.fsync, calls=calls, fail_at=fail_at):
            if next(calls) == fail_at:
                raise KeyboardInterrupt
            real(fd)

        with monkeypatch.context() as patch:
            patch.setattr(rebuilding.os, "fsync", fsync)
            try:
                redo(here)
                done = True
            except KeyboardInterrupt:
                done = False
        for day, data in here.bytes_of("averages").items():
            assert data in (broken[day], b"", before[0][day])
        redo(here)
        assert state(here) == before
        if done:
            break
    assert fail_at > 8


def test_the_commands_and_their_exit_codes(tmp_path):
    """`verify` exits with 0 or 1, `rebuild` repairs what it can; both print their findings."""
    site = Site(tmp_path)
    site.save(interval="10s", sources=[{"name": "fixture", "file": str(FIXTURE)}], timezone="UTC")
    with freeze_time("2026-11-24T12:00:00Z"):
        check_commands(site)


def check_commands(site: Site) -> None:
    """Verify, damage, rebuild and verify a folder whose only day is closed."""
    tmp_path = site.root

    def etl(command: str) -> commands.Finished:
        return commands.etl(site.root, command)

    nothing = etl("verify")
    assert (nothing.returncode, etl("rebuild").returncode) == (1, 1)
    assert nothing.stdout.startswith("wrong: output: there is no such folder")
    assert not (tmp_path / "output").exists()
    small(tmp_path / "output")
    path = tmp_path / "output" / "averages" / "2026-11-23.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"20.25", b"20.26", 1))
    wrong = etl("verify")
    assert (wrong.returncode, wrong.stderr) == (1, "")
    assert wrong.stdout.splitlines()[0] == (
        "wrong: output/averages/2026-11-23.jsonl:1: average_temperature is 20.26, expected 20.25"
    )
    rebuilt = etl("rebuild")
    assert rebuilt.returncode == 0
    assert rebuilt.stdout.splitlines() == [
        "output/averages/2026-11-23.jsonl: derived anew",
        "0 days of averages were right already",
        "1 reports were right already",
        "1 days, 4 raw lines, 4 averages lines, 1 reports checked: sound",
    ]
    assert path.read_bytes() == whole
    assert etl("verify").returncode == 0
    assert [event["reason"] for event in site.lines("events")] == ["averages"]


def test_verify_beside_a_running_process(tmp_path):
    """While `etl run` writes every 100 ms, `verify` finds nothing wrong, and `rebuild` exits with 75."""
    site = Site(tmp_path)
    site.save(
        interval="100ms", sources=[{"name": f"m{i}", "file": str(FIXTURE)} for i in range(20)], api={"serve": False}
    )
    folder = Folder(tmp_path / "output")
    with site.running() as process:
        until(lambda: site.lines("averages"))
        assert is_held(folder.root)
        assert site.etl("rebuild").returncode == 75
        sums = set()

        def proved_at_six_sizes() -> bool:
            proof = Proof(folder, FIVE, [])
            assert [finding for finding in proof.findings() if finding.wrong] == []
            sums.add(proof.counts["raw lines"])
            return len(sums) > 5

        until(proved_at_six_sizes)
        checked = site.etl("verify")
        assert (checked.returncode, checked.stdout.splitlines()[-1].endswith(": sound")) == (0, True)
        end(process)
    assert not is_held(folder.root)
    assert site.etl("verify").returncode == 0
