"""Verify: averages that do not follow from the raw log are found."""

from __future__ import annotations

import re

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.audit.rebuild import rebuild
from etl.audit.verify import Proof
from etl.readings.text import plural
from etl.storage.folder import Folder
from etl.storage.retention import compress, delete_old, without_averages
from etl.storage.settings_log import SettingsLog
from tests.support.folders import FIELDS, FIVE, prove, redo, small, wrong_in

anew = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_folder_with_restarts_and_changed_settings_is_sound(past):
    """Averages and reports follow from the raw log across restarts and changed settings; gaps are notes."""
    wrong, notes, summary = prove(past())
    assert wrong == []
    assert summary == "4 days, 25 raw lines, 25 averages lines, 3 reports checked: sound"
    assert [re.sub(r".* for (.* s), .*", r"\1", text) for text in notes] == ["86,310.0 s", "86,770.0 s"]
    assert notes[0].startswith(
        "raw/2026-11-23.jsonl:8: no reading of any source for 86,310.0 s, since 2026-11-23T00:01:00.000Z"
    )


def test_parameters_in_another_order_are_other_parameters(plant):
    """A changed order of the parameters is a new settings entry, and every window starts over."""
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
    """A change of any single byte is reported with the number of its line."""
    folder = small(tmp_path, report=False)
    path = folder.path("averages", "2026-11-23")
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        found = wrong_in(folder)
        assert found, byte
        line = whole.count(b"\n", 0, byte) + 1
        assert found[0].startswith((f"{path}:{line}: ", f"{path}: 1 missing or torn line at the end"))


def test_every_cut_of_the_averages_is_found(tmp_path):
    """Averages cut at any byte are reported as incomplete, unless a process may still be writing them."""
    folder = small(tmp_path, report=False)
    path = folder.path("averages", "2026-11-23")
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        (found,) = wrong_in(folder)
        missing = plural(4 - whole.count(b"\n", 0, size), "missing or torn line")
        assert found.startswith(f"{path}: {missing} at the end; `etl rebuild` ")
        assert wrong_in(folder, running=True) == []
    path.unlink()
    assert wrong_in(folder)[0].startswith(f"{path}: 4 missing or torn lines at the end")


@pytest.mark.parametrize("line", range(3))
def test_a_doubled_or_lost_line_is_found_where_it_is(tmp_path, line):
    """After a doubled or lost line, the following lines differ, and the end has one line too many or too few."""
    folder = small(tmp_path)
    path = folder.path("averages", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[: line + 1], *lines[line:]]))
    found = wrong_in(folder)
    assert found[0].startswith(f"{path}:{line + 2}: timestamp is ")
    assert found[-1].startswith(f"{path}: 1 surplus line at the end; ")
    path.write_bytes(b"".join([*lines[:line], *lines[line + 1 :]]))
    found = wrong_in(folder)
    assert found[0].startswith(f"{path}:{line + 1}: timestamp is ")
    assert found[-1].startswith(f"{path}: 1 missing or torn line at the end")


def test_a_line_that_is_no_json_or_written_differently_is_shown(tmp_path):
    """A line whose keys do not differ, or that is not JSON, is shown itself: shortened, and safe on a terminal."""
    folder = small(tmp_path)
    path = folder.path("averages", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b"\x1b[31m\xff" + b"x" * 900 + b"\n", lines[1].replace(b":", b": ", 1), *lines[2:]]))
    broken, spaced = wrong_in(folder)
    assert broken.startswith(rf"{path}:1: the line is b'\x1b[31m\xffxxx")
    assert len(broken) < len(str(path)) + 500
    assert spaced.startswith(f'{path}:2: the line is b\'{{"timestamp": ')


def test_many_differences_are_counted(tmp_path):
    """The first five differences of a day are listed, the others counted; its incomplete end follows."""
    folder = small(tmp_path, lines=50)
    path = folder.path("averages", "2026-11-23")
    path.write_bytes(path.read_bytes().replace(b'"source":"m"', b'"source":"n"')[:-2])
    proof = Proof(SettingsLog(folder, FIVE), [], lambda _: False)
    findings = list(proof.findings())
    assert len(findings) == 7
    assert findings[0].text == f'{path}:1: source is "n", expected "m"'
    assert findings[5] == ("... and 44 more", 44)
    assert findings[6].text.startswith(f"{path}: 1 missing or torn line at the end")
    assert proof.summary().endswith("1 report checked: 50 wrong")


@settings(anew, max_examples=50)
@given(line=st.integers(0, 24), field=st.sampled_from(["temperature", "fan_speed", "timestamp", "_polled_at", "id"]))
def test_a_changed_reading_is_found_by_what_was_derived_from_it(past, line, field):
    """A value changed in the raw log makes its averages line wrong."""
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
    """A raw line that cannot be decoded is reported by its number, and the lines after it are still checked."""
    folder = small(tmp_path, report=False)
    path = folder.path("raw", "2026-11-23")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    (found,) = wrong_in(folder)
    assert found.startswith(f"{path}:3: the line is damaged: ")
    path.write_bytes(b"".join(lines).replace(b'"id":0,', b'"id":0,"x":"\xff",', 1))
    (found,) = wrong_in(folder)
    assert found.startswith(f"{path}:1: the line is damaged: 'utf-8'")


def test_integers_of_any_size_have_an_averages_line(tmp_path):
    """A raw line with integers beyond 64 bits is read, averaged and checked like any other."""
    folder = small(tmp_path)
    folder.report_path("2026-11-23").unlink()
    with folder.path("raw", "2026-11-23").open("ab") as file:
        file.write(b'{"id":%d,"timestamp":%d,"_source":"m","_polled_at":"2026-11-23T01:00:00Z"}\n' % (10**30, 10**40))
    (found,) = wrong_in(folder)
    assert "1 missing or torn line at the end" in found
    list(rebuild(SettingsLog(folder, FIVE), [], (), lambda *_, **__: None))
    assert wrong_in(folder) == []


@pytest.mark.parametrize("days", [["22"], ["23"], ["25"], ["22", "23"], ["22", "23", "24", "25"]], ids="-".join)
def test_missing_averages_are_wrong_unless_keep_days_deletes_them(past, days):
    """A day without averages is wrong, whichever it is; a note only for a day that keep_days deletes."""
    here = past()
    for day in days:
        here.folder.path("averages", f"2026-11-{day}").unlink()
    assert [text.partition(":")[0] for text in prove(here)[0]] == [f"averages/2026-11-{day}.jsonl" for day in days]
    deleted = without_averages(here.folder, "2026-11-26", 3)
    assert deleted == {"2026-11-22"}
    wrong, notes, _ = prove(here, deleted=deleted)
    assert [text.partition(":")[0] for text in wrong] == [
        f"averages/2026-11-{day}.jsonl" for day in days if day != "22"
    ]
    assert [text for text in notes if "keep_days" in text] == [
        f"averages/2026-11-{day}.jsonl: does not exist; output.keep_days deletes averages before the raw log"
        for day in days
        if day == "22"
    ]
    redo(here, deleted=deleted)
    assert here.folder.days("averages")[0] == ("2026-11-23" if "22" in days else "2026-11-22")
    redo(here)
    assert prove(here)[0] == []


def test_a_folder_after_retention_is_sound(past):
    """Compressed days are checked like others; deleted days are notes."""
    here = past()
    averages = here.bytes_of("averages")
    delete_old(SettingsLog(here.folder, here.settings), "2026-11-25", 1)
    deleted = without_averages(here.folder, "2026-11-25", 1)
    assert (here.folder.days("raw")[0], here.folder.days("averages")[0]) == ("2026-11-23", "2026-11-24")
    compress(here.folder, lambda: False)
    wrong, notes, summary = prove(here, deleted=deleted)
    assert wrong == []
    assert summary == "3 days, 20 raw lines, 10 averages lines, 2 reports checked: sound"
    assert "reports: 1 day without a raw log cannot be checked: 2026-11-22" in notes
    assert redo(here, deleted=deleted)[0] == ["2 averages files already correct", "2 reports already correct"]
    assert "2026-11-23" not in here.folder.days("averages")
    assert here.folder.path("averages", "2026-11-25").read_bytes() == averages["2026-11-25"]


def test_a_damaged_compressed_file_is_wrong_and_the_check_continues(past):
    """A damaged compressed file is reported, and the days after it are still checked."""
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


def test_notes_are_not_errors(past):
    """Closed days without a report, kept torn lines, and averages or reports without a raw log are notes."""
    here = past()
    here.folder.report_path("2026-11-23").unlink()
    (here.folder.root / "raw" / "2026-11-23.jsonl.torn").write_bytes(b'{"torn":\n')
    here.folder.path("raw", "2026-11-22").unlink()
    here.folder.settings_path.write_bytes(
        b"".join(here.folder.settings_path.read_bytes().splitlines(keepends=True)[1:])
    )
    wrong, notes, _ = prove(here, ["2026-11-23"])
    here.folder.report_path("2026-11-22").write_bytes(b"{")
    assert any(text.startswith("reports/2026-11-22.json: cannot be read: ") for text in prove(here)[0])
    assert not any("2026-11-22" in text for text in wrong)
    expected = [
        "averages: 1 day without a raw log cannot be checked: 2026-11-22",
        "reports: 1 day without a raw log cannot be checked: 2026-11-22",
        "reports/2026-11-23.json: the day is closed and has no report yet; `etl report` writes it",
        "raw/2026-11-23.jsonl.torn: holds 9 bytes of torn lines that were cut off",
    ]
    assert [text for text in notes if "no reading" not in text] == expected


def test_a_damaged_line_of_the_settings_is_named(past):
    """A damaged settings entry is wrong; an unfinished last one is not, beside a running process."""
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
    """A missing folder and one without a raw log are each one finding with a hint."""
    (found,) = wrong_in(Folder(tmp_path / "none"))
    assert found == f"{tmp_path / 'none'}: the folder does not exist; check output.folder"
    (found,) = wrong_in(Folder(tmp_path))
    assert found == f"{tmp_path}: the folder has no raw log; check output.folder"
