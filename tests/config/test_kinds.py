"""A kind of source is a struct: how it is chosen, its nested keys, and how a mistake deep inside is explained."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta

from etl.config.document import Document
from etl.config.load import MAX_CONFIG_BYTES
from etl.config.schema import schema
from etl.config.sources.base import Mistake, Source
from etl.config.sources.kinds import KINDS
from tests.support.configs import load_text, problems_of, written


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A value of the controller."""

    hints = {
        "tag": "write the name of a tag",
        "type": "write int16 or float32",
        "values": "write words by number: {0: IDLE}",
    }

    tag: str
    type: Literal["int16", "float32"] = "int16"
    values: dict[int, Annotated[str, Meta(min_length=1)]] = {}


class Plc(Source, frozen=True, kw_only=True):
    """A kind of source with nested keys."""

    key = "plc"
    label = "a controller"
    hints = Source.hints | {"plc": "write the address of the controller", "tags": "write a field and its tag"}
    schemes = ("plc",)
    templates = ("plc",)

    plc: str
    tags: Annotated[dict[str, str | Tag], Meta(min_length=1)]

    def mistakes(self):
        for field, tag in self.tags.items():
            if isinstance(tag, Tag) and tag.values and tag.type == "float32":
                yield Mistake(("tags", field, "values"), "values are words for a float32", "write type: int16")


@pytest.fixture(autouse=True)
def _kind(monkeypatch):
    """The config has this kind too."""
    monkeypatch.setitem(KINDS, "plc", Plc)


def entry(tags: str, more: str = "") -> str:
    return f"sources:\n  - name: press\n    plc: 10.0.0.7\n{more}    tags:\n{tags}"


def test_nested_keys_are_typed(tmp_path):
    """A value may be short or a group of keys; words by number have integers as keys, with and without quotes."""
    text = entry("      temperature: Oven.Temp\n      status: {tag: Oven.State, values: {0: IDLE, '1': STARTED}}\n")
    (source,) = load_text(tmp_path, text).sources
    assert source.tags == {
        "temperature": "Oven.Temp",
        "status": Tag(tag="Oven.State", values={0: "IDLE", 1: "STARTED"}),
    }
    assert (source.address, source.records, source.by_key) == ("10.0.0.7", None, False)


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ("      t: {tag: a, typ: int16}\n", "5:19: unknown key typ; did you mean type?"),
        ("      t: {type: int16}\n", "5:10: tag is missing; write the name of a tag"),
        ("      t: {tag: a, type: int8}\n", "5:25: type cannot be int8; write int16 or float32"),
        ("      t: {tag: 5}\n", "5:16: tag cannot be 5 without quotes; put it in quotes"),
        ("      t: 5\n", "5:10: t in tags cannot be 5 without quotes; put it in quotes"),
        ("      t: [a]\n", "5:10: t in tags cannot be a list; write a field and its tag"),
        ("      t: {}\n", "5:10: tag is missing; write the name of a tag"),
        ("      {}\n", "5:7: tags cannot be empty; write a field and its tag"),
        (
            "      t: {tag: a, values: {IDLE: a}}\n",
            "5:28: IDLE cannot be a key of values; write words by number: {0: IDLE}",
        ),
        ("      t: {tag: a, values: {0: ''}}\n", "5:31: 0 in values cannot be ''; write words by number: {0: IDLE}"),
        ("      t: {tag: a, values: [a]}\n", "5:27: values cannot be a list; write words by number: {0: IDLE}"),
        (
            "      t: {tag: a, type: float32, values: {0: a}}\n",
            "5:42: values are words for a float32; write type: int16",
        ),
    ],
)
def test_a_mistake_deep_inside_has_its_place_and_hint(tmp_path, tags, problem):
    """The line of a problem names the key, and has its line, its column and the hint of the struct that it is in."""
    (line,) = problems_of(written(tmp_path, entry(tags)))
    assert line == f"{tmp_path}/config.yaml:{problem}"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("    records: a[]\n", "4:5: records belongs to url:, file: or mqtt:, this source has plc:; leave it out"),
        ("    tag: a\n", "4:5: unknown key tag; did you mean tags?"),
        ("    count: 0\n", "4:12: count cannot be 0; write how many sources this entry stands for, 1 to 100000, with"),
        ("    file: a.json\n", "3:10: source press has both file and plc; keep one of them"),
        ("    timeout: 9s\n", "4:14: timeout cannot be 9 s; write more than 0 and at most 8s"),
    ],
)
def test_a_key_of_another_kind_is_explained(tmp_path, keys, problem):
    """Keys of other kinds, of none, and of two kinds at once."""
    (line,) = problems_of(written(tmp_path, entry("      t: a\n", keys)))
    assert line.startswith(f"{tmp_path}/config.yaml:{problem}")


def test_an_address_of_another_kind_is_explained(tmp_path):
    """An address whose scheme belongs to another kind is not refused as unknown: the hint names the key of the kind."""
    (line,) = problems_of(written(tmp_path, "sources: [{name: m, url: 'plc://10.0.0.7'}]"))
    assert "url cannot be 'plc://10.0.0.7': it is a controller; write plc: instead of url:" in line


def test_a_missing_library_is_a_problem_with_the_extra_to_install(tmp_path, monkeypatch):
    """A kind whose library is not installed is refused when the config is read, wherever that is."""
    monkeypatch.setattr(Plc, "package", "no_such_library")
    monkeypatch.setattr(Plc, "extra", "plc")
    (line,) = problems_of(written(tmp_path, entry("      t: a\n")))
    assert "plc needs no_such_library; in the folder of the clone run pip install '.[plc]'" in line


def test_count_replaces_the_number_in_the_keys_of_the_kind(tmp_path):
    """{n} runs from 1 to count in the name and in what the kind names as templates."""
    text = "sources: [{name: 'm-{n}', plc: '10.0.0.{n}', tags: {t: '{n}'}, count: 3}]"
    sources = load_text(tmp_path, text).sources
    assert [(source.name, source.plc, source.tags["t"]) for source in sources] == [
        (f"m-{n}", f"10.0.0.{n}", "{n}") for n in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("keys", "valid"),
    [
        ("plc: a, tags: {t: a}", True),
        ("plc: a, tags: {t: {tag: a, values: {0: b}}}", True),
        ("url: 'http://m', records: 'a[]'", True),
        ("plc: a, tags: {t: {tag: a, type: int8}}", False),
        ("plc: a", False),
        ("plc: a, tags: {t: a}, headers: {a: b}", False),
        ("file: a, url: b", False),
    ],
)
def test_the_schema_has_each_kind(tmp_path, keys, valid):
    """An editor accepts an entry of any kind, and marks keys of another; each key has its hint as description."""
    document = Document(written(tmp_path, f"sources: [{{name: m, {keys}}}]"), {}, MAX_CONFIG_BYTES, "", "")
    assert Draft202012Validator(schema()).is_valid(document.value) == valid
    assert schema()["$defs"]["Tag"]["properties"]["type"]["description"] == "write int16 or float32"
