"""A machine is one machine: its id is what was sent, and no two records of an answer share it."""

from __future__ import annotations

import json

import orjson
import pytest
from freezegun import freeze_time

from tests.support import commands

SERIALS = ["12345678901234567890123", "12345678901234567890124", "18446744073709551617"]
DAY = "2026-11-22"


def lines(here, kind: str) -> list[dict]:
    """Everything written so far of one kind, with integers of any size."""
    return [json.loads(line) for day in here.folder.days(kind) for _, line in here.folder.lines(kind, day)]


@pytest.fixture
def gateway(plant):
    """A plant with one source, a file whose answer the test writes; `poll` reads it and gives the new raw lines."""

    def build(**source):
        here = plant(sources=[{"name": "g", "file": "answer.json", **source}])

        def poll(answer) -> list[dict]:
            count = len(lines(here, "raw"))
            body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
            (here.root / "answer.json").write_bytes(body + b" " * count)  # another size is another version
            here.tick()
            return lines(here, "raw")[count:]

        here.poll = poll
        return here

    return build


OVENS = {"oven-1": {"temperature": 20, "id": 7}, "oven-2": {"temperature": 80}}


def test_records_without_an_id_are_not_averaged_together(gateway):
    """Two records without an id are rejected with a hint, so that their values meet in no average."""
    here = gateway(records="values(@)")
    assert here.poll({"oven-1": {"temperature": 20}, "oven-2": {"temperature": 80}}) == []
    rejected = here.events("rejected")
    assert [(event["source"], event["reason"], event["count"]) for event in rejected] == [("g", "shared_id", 2)]
    assert rejected[0]["why"].startswith("2 records of the answer have no id; ")
    assert "`id: key`" in rejected[0]["why"]
    assert [event["reason"] for event in here.events("source_down")] == ["shared_id"]


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([1, 2, 1, 3], [2, 3]),
        ([1, 1.0, 2], [2]),
        ([1, "1"], [1, "1"]),
        ([0, -0.0, "0"], ["0"]),
        ([None, True, [1], {"a": 1}, 5], [5]),
        ([None, 0, ""], [None, 0, ""]),
        (["a", "A", "a ", "a"], ["A", "a "]),
        ([1.5, 1.5, 2.5], [2.5]),
        ([10**30, 10**30 + 1, 10**30], [10**30 + 1]),
        ([2**63, 2**63 + 1, 2**64, 2**64 + 1], [2**63, 2**63 + 1, 2**64, 2**64 + 1]),
        ([True], [True]),
    ],
)
def test_all_records_with_a_shared_id_are_rejected(gateway, ids, kept):
    """All records of an answer that would be the same machine are rejected; the other machines' are kept."""
    here = gateway(records="m")
    answer = b'{"m":[%b]}' % b",".join(
        b'{"id":%b}' % str(i).encode() if type(i) is int else orjson.dumps({"id": i}) for i in ids
    )
    assert [line["id"] for line in here.poll(answer)] == kept
    rejected = here.events("rejected")
    assert {event["reason"] for event in rejected} <= {"shared_id"}
    assert sum(event.get("count", 1) for event in rejected) == len(ids) - len(kept)


def test_a_missing_id_and_a_null_are_the_same_machine(gateway):
    """A record without id is kept where it is the only one; one with null is the same machine."""
    here = gateway(records="m")
    assert len(here.poll({"m": [{"temperature": 1}, {"id": 1}]})) == 2
    assert [line["id"] for line in here.poll({"m": [{"temperature": 1}, {"id": None}, {"id": 1}]})] == [1]


def test_the_next_answer_may_have_the_same_ids(gateway):
    """Only the records of one answer are compared: each line of a followed file is an answer of its own."""
    here = gateway(records="m")
    for _ in range(3):
        assert len(here.poll({"m": [{"id": 1}, {"id": 2}]})) == 2
    here.config["sources"][0] |= {"file": "lines.jsonl", "records": "@"}
    (here.root / "lines.jsonl").write_bytes(b'{"id": 1}\n' * 3)
    here.reload()
    here.tick()
    assert [line.get("_position") for line in lines(here, "raw")][-3:] == [10, 20, 30]


def test_the_keys_of_an_object_are_ids(gateway):
    """With `id: key` each value of the object is a reading whose `id` is its key, in the place of its own."""
    here = gateway(records="@", id="key")
    here.poll(OVENS)
    raw = (here.folder.root / "raw.jsonl").read_bytes().splitlines()
    assert raw[0].startswith(b'{"temperature":20,"id":"oven-1","_source":"g",')
    assert raw[1].startswith(b'{"temperature":80,"id":"oven-2","_source":"g",')
    assert [(line["id"], line["average_temperature"]) for line in lines(here, "averages")] == [
        ("oven-1", 20),
        ("oven-2", 80),
    ]
    assert here.events("rejected") == []


def test_a_value_that_is_not_an_object_is_rejected_alone(gateway):
    """With `id: key` a value that is no object is rejected; a result that is no object rejects the answer."""
    here = gateway(records="m", id="key")
    assert [line["id"] for line in here.poll({"m": {"a": {}, "b": 5, "": {}}})] == ["a", ""]
    assert [event["reason"] for event in here.events("rejected")] == ["not_object"]
    assert here.poll({"m": [{"id": 1}]}) == []
    assert here.events("rejected")[-1]["why"].startswith("`records` gives an array; with `id: key` ")
    assert here.poll({"m": {str(i): {} for i in range(10_001)}}) == []
    assert here.events("rejected")[-1]["reason"] == "too_many"


def test_a_reload_changes_where_ids_come_from(gateway):
    """`id: key` can be set and removed while the process runs."""
    here = gateway(records="@", id="key")
    assert [line["id"] for line in here.poll(OVENS)] == ["oven-1", "oven-2"]
    here.config["sources"][0] = {"name": "g", "file": "answer.json", "records": "values(@)"}
    here.reload()
    assert [line.get("id") for line in here.poll(OVENS)] == [7, None]


@pytest.mark.parametrize("records", [None, "@", "{id: id, temperature: temperature, speed: speed, nested: nested}"])
def test_a_long_number_is_kept_as_sent(gateway, records):
    """The raw line has each number as the machine sent it, with and without `records`."""
    here = gateway(**({"records": records} if records else {}))
    numbers = (
        b'"temperature":0.1000000000000000055511151231257827,"speed":1.0,"nested":{"a":[1e-400,-9223372036854775809]}'
    )
    sent = b'{"id":%b,%b}' % (SERIALS[0].encode(), numbers)
    here.poll(sent)
    assert (here.folder.root / "raw.jsonl").read_bytes().startswith(sent[:-1] + b',"_source":"g"')
    assert lines(here, "averages")[0]["average_temperature"] == 0.1


def test_long_numbers_compute_in_expressions(gateway):
    """An expression compares and selects long numbers like others."""
    here = gateway(records="m[?id > `0`].{id: id, fan_speed: max([t, `1`]), text: to_string(id)}")
    answer = b'{"m":[{"id":%b,"t":12345678901234567.8},{"id":-1,"t":1}]}' % SERIALS[0].encode()
    (line,) = here.poll(answer)
    assert (line["id"], line["text"]) == (int(SERIALS[0]), SERIALS[0])
    assert b'"fan_speed":12345678901234567.8,' in (here.folder.root / "raw.jsonl").read_bytes()


def test_serials_sent_as_text_may_become_long_numbers(gateway):
    """An expression that makes a long number of a text keeps its digits."""
    here = gateway(records="m[].{id: to_number(serial), temperature: t}")
    answer = {"m": [{"serial": serial, "t": "é"} for serial in SERIALS]}
    assert [line["id"] for line in here.poll(answer)] == list(map(int, SERIALS))


def test_a_long_number_made_of_a_text_changes_no_other_number(gateway):
    """The other numbers of the record keep their digits."""
    here = gateway(records="{id: to_number(serial), temperature: t, fan_speed: u}")
    here.poll(b'{"serial":"18446744073709551617","t":0.1000000000000000055,"u":[1e-400]}')
    raw = (here.folder.root / "raw.jsonl").read_bytes()
    assert raw.startswith(b'{"id":18446744073709551617,"temperature":0.1000000000000000055,"fan_speed":[1e-400],')


@pytest.mark.parametrize("kind", ["array", "lines", "raw log"])
def test_serials_beyond_64_bits_are_machines_everywhere(gateway, tmp_path, kind):
    """Machines whose ids differ beyond 64 bits stay apart in averages, report, page, verify, status and replay."""
    here = gateway(records="m")
    answer = b'{"m":[%b]}' % b",".join(b'{"id":%b,"temperature":5}' % serial.encode() for serial in SERIALS)
    for _ in range(6):
        here.poll(answer)
    ids = [int(serial) for serial in SERIALS]
    assert [line["id"] for line in lines(here, "averages")] == ids * 6
    assert [line["readings"] for line in lines(here, "averages")][-3:] == [5, 5, 5]
    here.close()
    with freeze_time("2026-11-23T06:00:00"):
        assert commands.etl(here.root, "report").returncode == 0
        report = orjson.loads(commands.etl(here.root, "status", "--json").stdout)
        assert report["sources"][0]["machines"] == 3
        text = (here.folder.root / "reports" / f"{DAY}.json").read_text()
        assert [f'"id": {serial},' in text for serial in SERIALS] == [True] * 3
        assert all(serial in (here.folder.root / "reports" / f"{DAY}.html").read_text() for serial in SERIALS)
        verified = commands.etl(here.root, "verify")
        assert (verified.returncode, verified.stderr) == (0, "")
        path = here.folder.root / "reports" / f"{DAY}.json"
        path.write_text(text.replace(SERIALS[0], SERIALS[0][:-1] + "9"))
        assert (
            "id is 12345678901234567890129, expected 12345678901234567890123"
            in commands.etl(here.root, "verify").stdout
        )
        file = tmp_path / "g.jsonl"
        if kind == "raw log":
            file.write_bytes((here.folder.root / "raw" / f"{DAY}.jsonl").read_bytes())
        else:
            items = [b'{"id":%b,"timestamp":"%b"}' % (serial.encode(), DAY.encode()) for serial in SERIALS]
            file.write_bytes(b"\n".join(items) if kind == "lines" else b"[" + b",".join(items) + b"]")
        assert commands.etl(here.root, "replay", str(file), "--output", str(tmp_path / "copy")).returncode == 0
    for folder in ("raw", "averages"):
        copied = (tmp_path / "copy" / folder / f"{DAY}.jsonl").read_text()
        assert all(f'"id":{serial},' in copied for serial in SERIALS)


def test_the_items_of_an_array_keep_their_numbers(gateway):
    """The items of an array in a file keep long numbers too."""
    here = gateway()
    assert [line["id"] for line in here.poll(b"[" + b",".join(b'{"id":%b}' % s.encode() for s in SERIALS) + b"]")] == [
        int(SERIALS[0])
    ]
    here.tick(2)
    assert [line["id"] for line in lines(here, "raw")] == list(map(int, SERIALS))
