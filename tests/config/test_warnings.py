"""What `etl check` warns of: surely a mistake, but no reason to refuse the config."""

from __future__ import annotations

import pytest

from etl.config.load import load_checked
from etl.config.warnings import warnings
from tests.support.configs import MINIMAL, SHIPPED, check, written

URL = "url: 'http://127.0.0.1:1/x'"


def warned(folder, text):
    """The lines of the warnings about a config, from its line on."""
    loaded, checker = load_checked(written(folder, text), {})
    return [line.removeprefix(f"{folder}/config.yaml:") for line in checker.lines(warnings(loaded))]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("sources: [{name: a, file: no.json}]", "1:27", ["no.json does not exist", "relative one"]),
        (f"sources: [{{name: a, {URL.replace('http', 'https')}, ca_file: no.pem}}]", "", ["no.pem does not exist"]),
        (MINIMAL + "report: {threshold: 20}", "2:21", ["threshold 20 is 2,000 %", "for 20 % write 0.2"]),
        (MINIMAL + "report: {threshold: 1.5}", "2:21", ["150 %"]),
        (f"sources: [{{name: a, {URL}}}, {{name: b, {URL}}}]", "", ["b polls the same url as a"]),
        (
            f"sources: [{{name: 'a-{{n}}', {URL}, count: 3}}]",
            "",
            ["a-2 polls the same url as a-1", "write {n} into url"],
        ),
        ("sources: [{name: 'a-{n}', url: 'http://h/{n}'}]", "", ["url has {n}", "count"]),
        ("sources: [{name: 'a-{n}', file: there.json, count: 2}]", "", ["same file", "leave count out"]),
        ("sources: [{name: a, file: there.json, timeout: 2s}]", "", ["timeout has no effect on a file"]),
        (f"sources: [{{name: a, {URL}, ca_file: there.json}}]", "", ["ca_file has no effect on an http:// address"]),
        ("sources: [{name: a, file: output/raw.jsonl}]", "", ["is in the output folder"]),
        ("sources: [{name: a, file: .}]", "", ["is not a file"]),
        ("sources: [{name: a, file: circle.jsonl}]", "1:27", ["circle.jsonl cannot be reached: Too many levels"]),
        (f"sources: [{{name: a, file: {'x' * 300}}}]", "1:27", ["cannot be reached: File name too long"]),
        ("sources: [{name: a, file: lines.ndjson}]", "", ["read as one JSON document", ".jsonl"]),
        (MINIMAL + "parameters: {a: x, b: x}", "2:23", ["b and a average the same field, x"]),
        (MINIMAL + "parameters: {a: temps.core}", "", ["temps.core in parameters has a dot", "records"]),
        (MINIMAL + "shard: 0/8000", "", ["none of the sources"]),
        (MINIMAL + "report: {detectors: [history_mad]}", "2:22", ["history_mad no longer exists", "remove it"]),
    ],
)
def test_what_is_surely_a_mistake_is_a_warning(tmp_path, text, place, words):
    """Each warning has the place, what is wrong, and what to do."""
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    lines = warned(tmp_path, text)
    assert any(line.startswith(place) and all(word in line for word in words) for line in lines), lines


@pytest.mark.parametrize(
    "text",
    [
        SHIPPED.read_text(),
        MINIMAL + "report: {threshold: 1}\nwindow: 1",
        f"sources: [{{name: a, {URL}, records: 'a[]'}}, {{name: b, {URL}, records: 'b[]'}}]",
        f"sources: [{{name: a, {URL}, headers: {{K: '1'}}}}, {{name: b, {URL}, headers: {{K: '2'}}}}]",
        "sources: [{name: 'a-{n}', url: 'http://h-{n}.plant/', count: 3}]",
        "sources: [{name: a, file: there.json, records: 'x'}]\nparameters: {t: temps.core}",
    ],
)
def test_no_warning_of_what_may_be_meant(tmp_path, text):
    """Unusual configs that make sense have no warning."""
    (tmp_path / "there.json").write_text("{}")
    assert warned(tmp_path, text) == []


def test_check_prints_warnings_and_exits_with_0(tmp_path):
    """Warnings go to stderr, as file:line:column: warning, and the summary to stdout."""
    written(tmp_path, "sources: [{name: a, file: no.json}]\nreport: {threshold: 20}")
    ended = check("config.yaml", tmp_path)
    assert ended.returncode == 0
    assert ended.stdout.startswith("1 source")
    first, second = ended.stderr.splitlines()
    assert first.startswith("config.yaml:1:27: warning: file no.json does not exist; ")
    assert second.startswith("config.yaml:2:21: warning: threshold 20 is 2,000 % of the average; ")


def test_a_warning_about_a_fleet_names_its_file(tmp_path):
    """The place of a warning is in the file of sources."""
    (tmp_path / "fleet.yaml").write_text("- {name: a, file: no.json}\n")
    loaded, checker = load_checked(written(tmp_path, "sources: fleet.yaml"), {})
    (line,) = checker.lines(warnings(loaded))
    assert line.startswith(f"{tmp_path}/fleet.yaml:1:19: ")
