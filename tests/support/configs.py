"""Configs to check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from etl.config.document import ConfigError
from etl.config.load import load

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config.yaml"
MINIMAL = "sources: [{name: machine-1, url: 'http://127.0.0.1:5000/data'}]\n"
ACCEPTED = [
    b"\xef\xbb\xbf" + MINIMAL.encode(),
    MINIMAL.replace("}", "}\r").encode() + b"window: 5\r\n",
    b"--- # one document\n" + MINIMAL.encode() + b"...\n",
    MINIMAL.replace("machine-1", "Kühler ②").encode(),
    MINIMAL.encode() + b"report: {at: 00:05}",
    MINIMAL.encode() + b"parameters: {on: yes it is, 5: '5', 2026-11-22: 2026-11-22}",
    b"sources: [{name: m, url: 'https://u:p@[::1]:8443/a%20b?c=d'}]",
    b"sources: [{name: m, url: 'http://[fe80::1%25br-lan.100]:81/?a=b', headers: {Connection: close}}]",
    b"sources: [{name: m, url: 'http://u:p%40@m/', auth: digest}, {name: n, url: 'http://u@m/', auth: basic}]",
    b"sources: [{name: m, url: 'http://m', headers: &h {X: a}}, {name: n, url: 'http://n', headers: *h}]",
    b"sources: [{name: m, file: m.json, timeout: ~}]",
]
"""Unusual files that are valid: a byte order mark, Windows line ends, odd names, dates, aliases, empty keys."""


def written(folder, text):
    """A config file with this text."""
    file = folder / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def load_text(folder, text, **environment):
    """Load a config with this text."""
    return load(written(folder, text), environment)


def problems_of(file, environment=None):
    """The problems of a config that cannot be used."""
    with pytest.raises(ConfigError) as error:
        load(file, environment or {})
    return error.value.problems


def check(file, cwd, **environment):
    """Run `etl check` on a file in a process of its own."""
    command = [sys.executable, "-m", "etl", "check", "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})
