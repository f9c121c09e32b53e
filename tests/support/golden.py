"""Golden files: whole outputs under tests/golden, compared, or written again with --refresh-golden."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def files(root: Path) -> dict[str, bytes]:
    """Every plain file below a folder except the lock, by its name."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != ".lock"
    }


def golden(folder: str, written: dict[str, bytes], request) -> dict[str, bytes]:
    """The golden files of a folder; with --refresh-golden they are first replaced by these."""
    root = GOLDEN / folder
    if request.config.getoption("--refresh-golden"):
        shutil.rmtree(root, ignore_errors=True)
        for name, data in written.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return files(root)


def rounded(value):
    """A JSON value with its floats rounded: detectors compute with numpy, whose last digits depend on the processor."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def assert_same_page(page: bytes, expected: bytes) -> None:
    """Compare two pages; coordinates of charts may differ in their last digit."""
    assert NUMBER.split(page) == NUMBER.split(expected)
    drawn, drawn_before = ([float(number) for number in NUMBER.findall(text)] for text in (page, expected))
    assert drawn == pytest.approx(drawn_before, abs=0.2)
