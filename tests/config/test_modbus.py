"""Sources over Modbus TCP in the config: units by number, addresses, texts for numbers."""

from __future__ import annotations

import pytest
import yaml

from etl.config.load import load
from etl.config.warnings import warnings
from tests.support.configs import written


def loaded(folder, **keys):
    entry = {"name": "oven", "modbus": "tcp://10.0.0.7", "registers": {"temperature": {"holding": 100}}, **keys}
    return load(written(folder, yaml.safe_dump({"sources": [entry]})))


def test_an_entry_stands_for_the_units_of_a_gateway(tmp_path):
    """With count, {n} is the unit, and the host stays the same; without it, the unit is 1."""
    sources = loaded(tmp_path, name="oven-{n}", unit="{n}", count=3).sources
    assert [(source.name, source.unit, source.endpoint) for source in sources] == [
        (f"oven-{n}", n, ("10.0.0.7", 502)) for n in (1, 2, 3)
    ]
    sources = loaded(tmp_path, name="oven-{n}", modbus="tcp://10.0.0.{n}:1502", count=2).sources
    assert [(source.unit, source.endpoint) for source in sources] == [(1, ("10.0.0.1", 1502)), (1, ("10.0.0.2", 1502))]


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("tcp://plc-1.plant:1502", ("plc-1.plant", 1502)),
        ("TCP://10.0.0.7", ("10.0.0.7", 502)),
        ("tcp://[fe80::1%eth0]:502", ("fe80::1%eth0", 502)),
    ],
)
def test_addresses(tmp_path, address, endpoint):
    """A host, a name or an address of either version, and a port, 502 without one."""
    (source,) = loaded(tmp_path, modbus=address).sources
    assert source.endpoint == endpoint


def test_numbers_of_texts_may_be_in_quotes(tmp_path):
    """Keys of `values` are numbers, with quotes or without."""
    registers = {"status": {"holding": 10, "values": {0: "IDLE", "1": "STARTED"}}}
    (source,) = loaded(tmp_path, registers=registers).sources
    assert source.registers["status"].values == {0: "IDLE", 1: "STARTED"}


@pytest.mark.parametrize(
    ("table", "number", "address"), [("holding", 40101, 100), ("input", 30005, 4), ("discrete", 10004, 3)]
)
def test_the_number_of_a_manual_is_a_warning(tmp_path, table, number, address):
    """An address that looks like the number of a manual is warned of, with the address to write."""
    (warning,) = warnings(loaded(tmp_path, registers={"temperature": {table: number}}))
    assert warning.path == ("sources", 0, "registers", "temperature", table)
    assert warning.hint == f"if that is the number of a manual, write {table}: {address}"
    assert list(warnings(loaded(tmp_path, registers={"temperature": {table: address}}))) == []


def test_the_same_unit_twice_is_a_warning(tmp_path):
    """Sources that read the same registers of one unit are warned of; those of several units are not."""
    (warning,) = warnings(loaded(tmp_path, name="oven-{n}", count=2))
    assert "oven-2 polls the same modbus as oven-1" in warning.message
    assert list(warnings(loaded(tmp_path, name="oven-{n}", unit="{n}", count=2))) == []
