"""The hints of `etl try`: what an answer is, and that the expressions they suggest give numbers."""

from __future__ import annotations

import re

import jmespath
import orjson
import pytest
import yaml

from etl.config.sources.file import FileSource
from etl.config.sources.http import HttpSource
from etl.config.sources.opcua import OpcUaSource
from etl.readings.records import Failure
from etl.sources.advice import failure_hint, hints, missing_number, quality_hints

FIELDS = ["temperature", "fan_speed"]
OVEN = {"temperature": 20, "fan_speed": 800}

WEB = HttpSource(name="m", url="http://machine/")
FILE = FileSource(name="m", file="m.json")
PLC = OpcUaSource(name="m", opcua="opc.tcp://plc-1", nodes={"temperature": "i=5"})


def advice(answer, records=None, readings=None):
    """The hints on an answer, from which nothing was taken unless it is an object without `records`."""
    if readings is None:
        readings = [answer] if isinstance(answer, dict) and not records else []
    return hints(orjson.dumps(answer), records, readings, FIELDS)


@pytest.mark.parametrize(
    ("answer", "expression", "count"),
    [
        ([{**OVEN, "id": 1}, {**OVEN, "id": 2}], "[]", 2),
        ({"machines": [{**OVEN, "id": 1}]}, "machines[]", 1),
        ({"a": {"b-c": {"machines": [{**OVEN, "id": 1}]}}}, 'a."b-c".machines[]', 1),
        ({"data": OVEN}, "data", 1),
        ({"oven-1": OVEN, "oven-2": OVEN}, "@", 2),
        ({"ok": True, "data": {"oven-1": OVEN, "oven-2": OVEN}}, "data", 2),
        ({"oven-1": {**OVEN, "id": 1}, "oven-2": {**OVEN, "id": 2}}, "values(@)", 2),
        ({**OVEN, "temperature": "20.5"}, "{temperature: to_number(temperature), fan_speed: fan_speed}", 1),
        ({"temps": {"temperature": 20}, "fan": {"Fan_Speed": 8}, "id": 7},
         "{id: id, temperature: temps.temperature, fan_speed: fan.Fan_Speed}", 1),
        ({"temperature": {"value": 20, "unit": "C"}, "fan_speed": {"value": "8"}},
         "{temperature: temperature.value, fan_speed: to_number(fan_speed.value)}", 1),
        ({"Temperature": 20, "fanSpeed": 8, "id": 1, "name": "oven"},
         "{id: id, name: name, temperature: Temperature, fan_speed: fanSpeed}", 1),
        ({"list": [{"t": {"temperature": 1}, "fan_speed": 2, "id": n} for n in (1, 2)]},
         "list[].{id: id, temperature: t.temperature, fan_speed: fan_speed}", 2),
    ],
)  # fmt: skip
def test_the_suggested_records_give_every_number(answer, expression, count):
    """The first hint has `records` as YAML; applied to the answer it gives objects with a number in each field."""
    (hint,) = advice(answer)
    written = yaml.safe_load(re.search(r'records: "(?:[^"\\]|\\.)*"', hint)[0])["records"]
    assert written == expression
    selected = jmespath.search(written, answer)
    readings = selected if isinstance(selected, list) else [selected]
    if "id: key" in hint:
        readings = list(selected.values())
    assert len(readings) == count
    assert all(type(reading[field]) in (int, float) for reading in readings for field in FIELDS)


def test_an_answer_that_is_right_needs_no_hint():
    """No hint where every field has a number: plain, with records, with ids."""
    assert advice(OVEN) == []
    machines = [{**OVEN, "id": 1}, {**OVEN, "id": 2}]
    assert advice({"machines": machines}, "machines[]", machines) == []
    assert advice({**OVEN, "message": "warming up", "error": None}) == []


def test_readings_without_ids_of_their_own_are_noticed():
    """With records that are right otherwise: a key that tells them apart, or the keys of the object."""
    machines = [{**OVEN, "serial": "a"}, {**OVEN, "serial": "b"}]
    assert "{id: serial, ...}" in advice({"machines": machines}, "machines[]", machines)[0]
    assert 'set records: "@" and id: key' in advice({"a": OVEN, "b": OVEN}, "values(@)", [OVEN, OVEN])[0]


def test_a_measured_value_is_no_id():
    """Where nothing tells the readings apart but what is measured, the example is none of their fields."""
    for first, second in ((1, 2), (20.5, 21)):
        ovens = [{**OVEN, "id": 1, "temperature": value, "humidity": value} for value in (first, second)]
        assert "{id: serial, ...}" in " | ".join(advice({"ovens": ovens}, "ovens[]", ovens))


def test_other_names_of_fields_can_be_written_below_parameters():
    """The hint says so: the readings are not inside the answer."""
    assert "the machine has other names for the fields: write them below parameters" in advice({"Temperature": 20})[0]


def test_a_list_needs_no_keys_as_ids():
    """`id: key` beside `records: "@"`, but the answer is a list."""
    (hint,) = hints(orjson.dumps([{**OVEN, "id": 1}]), "@", [], FIELDS, by_key=True)
    assert hint == 'the answer is a list: set records: "[]", without id: key'


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([OVEN, OVEN], ['records: "[]"', "id"]),
        ([{**OVEN, "serial": 5}, {**OVEN, "serial": 6}], ['records: "[]"', "{id: serial, ...}"]),
        ([], ["the answer is []"]),
        ([1, 2], ["the answer is [1,2]"]),
        (3, ["the answer is 3"]),
        (None, ["the answer is null"]),
        ("\x1b[2Jhello", ["the answer is", "u001b[2Jhello"]),
        ({"error": "sensor offline", "code": 17}, ["looks like an error", '"sensor offline"']),
        ({"status": "error", "message": "busy"}, ["looks like an error", '"busy"']),
        ({"machines": [{"serial": 1, "temps": {"core": 9}, "rpm": 2}]},
         ["serial, temps.core, rpm", 'records: "machines[].{temperature: temps.core}"']),
        ({"temperature:0": {"id": 0, "tC": 21.5}}, ['"temperature:0".id, "temperature:0".tC', '0\\".tC}"']),
        ({"oven-1": {"t": 1, "rpm": 2}, "oven-2": {"t": 1, "rpm": 2}},
         ["each object has the numbers t, rpm", 'set records: "@" and id: key', "temperature: t"]),
    ],
)  # fmt: skip
def test_other_answers_are_explained(answer, words):
    """What cannot be repaired by an expression is named, with the first characters of it, printable."""
    advised = " | ".join(advice(answer))
    assert all(word in advised for word in words), advised
    assert advised.isprintable()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"), (b" \r\n", "empty"), (b"<html><body>Login", "a web page"), (b"\n<!DOCTYPE html>", "a web page"),
        (b"<?xml version='1.0'?><m/>", "XML"), (b'\xef\xbb\xbf{"a":1}', "byte order mark"),
        ('{"a":1}'.encode("utf-16"), "UTF-16"), ('{"a":1}'.encode("utf-16-le"), "UTF-16"), (bytes(9), "binary"),
        (b"{'temperature': 1}", "double ones"), (b'callback({"a":1})', "JSONP"), (b'{"a":NaN}', "NaN"),
        (b'[1,-Infinity]', "-Infinity"), (b'{"a":1}\n{"a":2}\n', ".jsonl"), (b"a,b\n1,2\n", "a JSON object"),
        (b'{"temperature": 21.5', "a JSON object"), (b"[" * 100_000, "a JSON object"), (b"\xff", "a JSON object"),
        ('{"a":"größe"}'.encode("latin-1"), "UTF-8"), (b"\x1f\x8b\x08\x00", "gzip"), (b'{"a":1e400}', "a mistake"),
        (b'{"a":"\\ud800"}', "a mistake"), (b'{"a":1', "lacks its end"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_json_is_named(body, words):
    """One hint says what it is instead."""
    (hint,) = hints(body, None, [], FIELDS)
    assert words in hint


@pytest.mark.parametrize(
    ("reading", "field", "words"),
    [
        ({"fan_sped": 1, "t": 2}, "fan_speed", "has no fan_speed; it has fan_sped, t; did you mean fan_sped?"),
        ({"Fan-Speed": 1}, "fan_speed", "did you mean Fan-Speed?"),
        ({"x": 1}, "fan_speed", "the reading has no fan_speed; it has x"),
        ({}, "fan_speed", "is empty"),
        ({"fan_speed": "800"}, "fan_speed", 'fan_speed is "800" in quotes, which is text'),
        ({"fan_speed": "fast"}, "fan_speed", 'fan_speed is "fast" (text)'),
        ({"fan_speed": True}, "fan_speed", "fan_speed is true"),
        ({"fan_speed": None}, "fan_speed", "fan_speed is null"),
        ({"fan_speed": [1]}, "fan_speed", "fan_speed is a list: [1]"),
        ({"fan_speed": {"rpm": 1}}, "fan_speed", 'fan_speed is an object: {"rpm":1}'),
        ({"temperature ": 1}, "temperature", 'it has "temperature "; did you mean "temperature "?'),
    ],
)  # fmt: skip
def test_a_field_without_a_number_is_explained(reading, field, words):
    """The sentence names what stands there, or what the reading has instead and a similar name."""
    assert words in missing_number(reading, field)


def test_sentences_are_bounded():
    """Hostile names and values give short printable sentences, and no search without end."""
    wide = {f"k{i}\x1b[2J" + "x" * 1000: {"y" * 1000: "z" * 100_000} for i in range(2000)}
    assert len(missing_number(wide, "fan_speed\n" * 99)) < 600
    deep = {"temperature": 1}
    for _ in range(100):
        deep = {"a": [deep]}
    for answer in (wide, deep, [wide] * 3, {"error": "x" * 10**6}, [[[[[[{"a": 1}]]]]]]):
        assert all(len(hint) < 2500 and hint.isprintable() for hint in advice(answer))


@pytest.mark.parametrize(
    ("reason", "why", "words"),
    [
        ("http_status", "HTTP 401 Unauthorized", "Authorization"), ("http_status", "HTTP 404 Not Found", "path"),
        ("tls", "the certificate is not trusted: self-signed certificate", "ca_file"),
        ("tls", "TLS failed: SSL certificate problem: unable to get local issuer certificate", "ca_file"),
        ("tls", "the certificate is not trusted: Hostname mismatch", "the host's name as the certificate has it"),
        ("tls", "TLS failed: SSL: subject name 'a' does not match target hostname 'b'", "as the certificate"),
        ("http_status", "HTTP 407 Proxy Authentication Required", "no_proxy"),
        ("tls", "TLS failed: WRONG_VERSION_NUMBER", "http://"),
        ("redirect", "HTTP 302: redirects are not followed", "url"),
        ("refused", "connection refused", "port"), ("dns", "the host's name cannot be resolved", "name"),
        ("protocol", "the answer is not proper HTTP", "https://"), ("no_file", "no such file", "path"),
    ],
)  # fmt: skip
def test_a_failure_has_a_hint(reason, why, words):
    """By its code, and for TLS and HTTP by its sentence."""
    assert words in failure_hint(Failure(reason, why), FILE if reason == "no_file" else WEB)


@pytest.mark.parametrize(
    ("reason", "why", "words"),
    [
        ("service_fault", "the server answers BadCertificateUriInvalid: ...", "application URI"),
        ("service_fault", "the server answers BadCertificateUntrusted: ...", "trust the file in certificate"),
        ("service_fault", "the server answers BadTooManySessions: ...", "end other clients"),
        ("service_fault", "the server answers BadUnexpectedError: ...", "manual"),
        ("tls", "the server takes no session without security; it offers ...", "set certificate, private_key"),
        ("tls", "the files in certificate, ... cannot be used: ...", "compare certificate, private_key"),
        ("tls", "the file in private_key cannot be read: etl.key", "check the path"),
        ("refused", "connection refused", "nothing listens on this port"),
    ],
)
def test_a_refusal_by_an_opcua_server_has_a_hint(reason, why, words):
    """By the name of the server's answer, or by what is wrong with the certificates."""
    assert words in failure_hint(Failure(reason, why), PLC)


def test_a_value_of_bad_quality_is_explained_by_it():
    """The sentence names the quality, and a wrong node id has a hint."""
    quality = {"temperature": "BadNodeIdUnknown", "fan_speed": "BadSensorFailure"}
    reading = {"temperature": None, "fan_speed": None, "_quality": quality}
    assert missing_number(reading, "temperature") == "temperature is null, with the quality BadNodeIdUnknown"
    (hint,) = quality_hints(reading, PLC)
    assert hint.startswith("temperature: the server has no such node")


def test_a_login_that_is_refused_is_not_asked_for_again():
    """A source with a login is told to compare it, not to write one."""
    refused = Failure("http_status", "HTTP 401 Unauthorized")
    assert "write the login" in failure_hint(refused, WEB)
    assert "compare user and password" in failure_hint(refused, HttpSource(name="m", url="http://user:pass@machine/"))


def test_a_status_without_a_hint_has_none():
    """An error of the machine itself needs no advice."""
    assert failure_hint(Failure("http_status", "HTTP 500 Internal Server Error"), WEB) is None
