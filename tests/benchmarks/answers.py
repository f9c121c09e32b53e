"""CPU and memory of the worst answers within the size limit, each in a process of its own.

python -m tests.benchmarks.answers
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import jmespath

from etl.readings.answers import raw_lines, split
from etl.readings.averages.alive import Alive
from etl.readings.averages.fold import derive, fold_of
from etl.readings.records import Answer, Poll, Settings
from etl.sources.contract import MAX_BODY_BYTES

SETTINGS = Settings(5, {"temperature": "temperature", "t": "t"}, "UTC", 10.0, 0.2)
FIELDS = "m[].{id: serial, temperature: temps.core, fan_speed: rpm, status: state}"


def many(count: int, item: bytes) -> bytes:
    """An object with a list of equal items."""
    return b'{"m":[' + b",".join([item] * count) + b"]}"


def full(begin: bytes, filling: bytes, end: bytes) -> bytes:
    """A body of the largest size."""
    return begin + filling * ((MAX_BODY_BYTES - len(begin) - len(end)) // len(filling)) + end


def strings(count: int, length: int) -> bytes:
    """An object with a list of different strings."""
    return b'{"m":[' + b",".join(b'"%0*d"' % (length, n * 7919 % count) for n in range(count)) + b"]}"


CASES: dict[str, tuple[bytes, str | None]] = {
    "1.7 million items": (many(1_700_000, b"{}"), FIELDS),
    "74,000 empty items": (many(74_000, b"{}"), FIELDS),
    "74,000 items, 30 fields": (many(74_000, b"{}"), "m[].{" + ", ".join(f"f{n}: a.b{n}" for n in range(30)) + "}"),
    "49,000 items of a key": (many(49_000, b'{"a":{}}'), FIELDS),
    "sorted and joined strings": (strings(140_000, 30), "sort(m) | join('x', @)"),
    "lists doubled 15 times": (many(74_000, b"[]"), "m" + " | [@,@] | []" * 15),
    "flattened 4 times": (many(74_000, b"[]"), "m[][][][]"),
    "to_string": (many(74_000, b"{}"), "m[].{id: to_string(@)}"),
    "mixed types": (many(40_000, b'{"rpm":5}')[:-2] + b',{"rpm":"n/a"}]}', "max_by(m, &rpm)"),
    "140,000 keys": (b"{" + b",".join(b'"k%d":1' % n for n in range(140_000)) + b"}", "*"),
    "a long string": (full(b'{"id":1,"t":"', b"x", b'"}'), "@"),
    "a long string of wide characters": (
        full('{"t":"\N{GRINNING FACE}'.encode(), b"x", b'"}'),
        "{id: `1`, a: reverse(t)}",
    ),
    "escapes": (full(b'{"t":"', b"\\u00e9", b'"}'), None),
    "a number of millions of digits": (full(b'{"t":0.', b"7", b"}"), None),
    "a huge exponent": (full(b'{"t":1e', b"7", b"}"), None),
    "nested millions deep": (b"[" * (MAX_BODY_BYTES // 2) + b"]" * (MAX_BODY_BYTES // 2), "@"),
    "blanks": (full(b'{"t":1', b" ", b"}"), None),
    "149,000 long numbers": (many(149_000, b"0.1234567890123456789012345678901"), "{id: `1`, m: m}"),
    "149,000 long integers": (many(149_000, b"9" * 32), None),
    "10,000 records of one id": (many(10_000, b'{"serial":1,"temps":{"core":2}}'), FIELDS),
    "10,000 machines": (
        b'{"m":['
        + b",".join(b'{"serial":%d,"temps":{"core":2},"rpm":5,"state":"x","a":1,"b":2}' % n for n in range(10_000))
        + b"]}",
        FIELDS,
    ),
}


def resident(key: str) -> float:
    """A figure of this process' memory in MiB: VmRSS now, VmHWM the highest."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def measure(name: str) -> None:
    """Split, parse, encode and derive one answer; print what it costs beside the body itself."""
    body, expression = CASES[name]
    CASES.clear()
    fold, compiled = fold_of(SETTINGS), jmespath.compile(expression) if expression else None
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts over
    before, started = resident("VmRSS"), time.process_time()
    poll = Poll("a", 1.0, (Answer(body),))
    lines, rejections = raw_lines(split(poll, compiled) if compiled else poll, Alive(3600.0))
    derived = sum(1 for _ in derive({}, lines, fold))
    seconds, mebibytes = time.process_time() - started, resident("VmHWM") - before
    result = f"{rejections[0].reason}: {rejections[0]}" if rejections else f"{derived} readings"
    print(f"{name:34} {len(body) / 2**20:5.2f} MiB {seconds:6.2f} s {mebibytes:+5.0f} MiB  {result[:80]}")


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    for name in CASES:
        subprocess.run([sys.executable, "-m", "tests.benchmarks.answers", name], check=True)


if __name__ == "__main__":
    main()
