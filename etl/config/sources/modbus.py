"""`modbus`: a device that is read over Modbus TCP, or a unit behind a gateway."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from etl.config.addresses import is_url
from etl.config.sources.base import Mistake, Source

DEFAULT_PORT = 502
MAX_UNIT = 255
MAX_ADDRESS = 65_535
TABLES = ("holding", "input", "coil", "discrete")
"""The four tables of a device; the key of a register that names one holds the address in it."""
WORDS = {
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "int64": 4,
    "uint64": 4,
    "float32": 2,
    "float64": 4,
    "bit": 1,
}
"""Registers of 16 bits that a value takes, by its type."""

_ADDRESS_HINT = "write tcp:// and the host of the device or gateway, such as tcp://10.0.0.7:502"
_COUNTED = "addresses count from 0: a manual's 40101 is holding: 100, 30005 is input: 4, 10004 is discrete: 3"
_ONE_TABLE = "write one of holding:, input:, coil:, discrete: with the address, such as holding: 100"
_MANUAL_TABLES = {"holding": 40_001, "input": 30_001, "discrete": 10_001}
"""The number that manuals give to address 0 of a table."""
_MANUAL_NUMBERS = 9_999
"""Numbers of a table in manuals with five digits."""
_UNIT_HINT = 'write the unit id, 0 to 255, 1 for most devices; with count, "{n}" in quotes is the number of each source'
_ADVICE = {
    "IllegalDataAddress": f"the unit has no such register or bit: {_COUNTED}; is it in the other table?",
    "IllegalFunction": "the unit does not have this table: compare holding, input, coil and discrete with its manual",
    "IllegalDataValue": "the unit refuses this read: compare type and address with its manual",
    "GatewayPathUnavailable": "the gateway does not know this unit: compare unit with the gateway's configuration",
    "GatewayTargetDeviceFailedToRespond": "the unit does not answer the gateway: is it on, and is unit right?",
    "ServerDeviceBusy": "the unit is busy: set a longer interval, or let fewer clients read it",
    "ServerDeviceFailure": "the unit reports a fault of its own: see its display or its manual",
    "NaN": "the device has no value, or order is not that of its manual",
    "Infinity": "the device has no value, or order is not that of its manual",
    "-Infinity": "the device has no value, or order is not that of its manual",
    "exception": "look the name up in the unit's manual",
    "protocol": "does the device speak Modbus TCP on this port? Modbus RTU over TCP is another protocol",
    "reset": "the device closed the connection: does it take another client now? Many take one to four at a time",
    "timeout": "is the address right, and unit too? Many devices do not answer for a unit that they do not have",
    "busy": "other units behind this gateway are slow or do not answer: set a longer interval, or a shorter timeout",
}


class Register(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a value is, and how its number is made of the registers there."""

    hints: ClassVar[dict[str, str]] = {
        **dict.fromkeys(TABLES, f"write an address from 0 to 65535; {_COUNTED}"),
        "type": f"write one of {', '.join(WORDS)}",
        "bit": "write the bit of the register, 0 (lowest) to 15",
        "order": "write big (ABCD), big_swapped (CDAB), little_swapped (BADC) or little (DCBA)",
        "scale": "write the number that the register's value is multiplied by, such as 0.1",
        "offset": "write the number that is added after scale, such as -40",
        "values": "write the text for each number, such as {0: IDLE, 1: STARTED}",
    }
    unknown_key_hints: ClassVar[dict[str, str]] = {
        "address|register|reg|offset_?address|start": _ONE_TABLE,
        "holding_?register|hr|fc_?0?3": "did you mean holding?",
        "input_?register|ir|fc_?0?4": "did you mean input?",
        "coils|fc_?0?1": "did you mean coil?",
        "discrete_?input|fc_?0?2": "did you mean discrete?",
        "data_?type|format|datatype": "did you mean type?",
        "((byte|word)_?)?(order|swap)|endian(ness)?": "did you mean order?",
        "factor|multiplier|gain|multiply": "did you mean scale?",
        "divi(de|sor|der)": "did you mean scale? For a division by 10 write scale: 0.1",
        "count|length|size|quantity": "type says how many registers a value takes",
        "enum|map(ping)?|states|texts": "did you mean values?",
        "unit|slave": "write unit: beside modbus:, and a source for each unit",
    }

    holding: Annotated[int, Meta(ge=0, le=MAX_ADDRESS)] | None = None
    input: Annotated[int, Meta(ge=0, le=MAX_ADDRESS)] | None = None
    coil: Annotated[int, Meta(ge=0, le=MAX_ADDRESS)] | None = None
    discrete: Annotated[int, Meta(ge=0, le=MAX_ADDRESS)] | None = None
    type: Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bit"] | None = None
    bit: Annotated[int, Meta(ge=0, le=15)] | None = None
    order: Literal["big", "big_swapped", "little_swapped", "little"] | None = None
    scale: int | float | None = None
    offset: int | float | None = None
    values: dict[int, str] = msgspec.field(default_factory=dict)

    @property
    def table(self) -> str:
        """The table that holds it."""
        return next(table for table in TABLES if getattr(self, table) is not None)

    @property
    def address(self) -> int:
        """The address of its first register, or of its bit, in the table."""
        address: int = getattr(self, self.table)
        return address

    @property
    def is_coil(self) -> bool:
        """Whether its table has a bit at each address."""
        return self.table in ("coil", "discrete")

    @property
    def kind(self) -> str:
        """The type of its value."""
        return "bit" if self.is_coil or self.bit is not None else self.type or "uint16"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.table} {self.address}"

    def mistakes(self) -> Iterator[tuple[str, str, str]]:
        """What types cannot express: the key (empty for the register itself), what is wrong and a hint, or none."""
        given = [table for table in TABLES if getattr(self, table) is not None]
        if len(given) != 1:
            wrong = f"has both {given[0]} and {given[1]}" if given else "has no address"
            yield (given[1] if given else ""), wrong, _ONE_TABLE
            return
        if self.address + WORDS[self.kind] - 1 > MAX_ADDRESS:
            yield self.table, f"ends beyond address {MAX_ADDRESS}", f"a {self.kind} takes {WORDS[self.kind]} registers"
        yield from self._bit_mistakes()
        for key in ("scale", "offset"):
            number = getattr(self, key)
            if number is not None and (not math.isfinite(number) or (key == "scale" and not number)):
                yield key, f"cannot have the {key} {number}", ""
        scaled = self.scale is not None or self.offset is not None
        if self.values and (scaled or self.kind.startswith("float")):
            yield "values", "has values, but numbers that are not whole", "leave out values, or type, scale and offset"

    def _bit_mistakes(self) -> Iterator[tuple[str, str, str]]:
        if self.is_coil:
            for key in ("bit", "order", "scale", "offset"):
                if getattr(self, key) is not None:
                    yield key, f"has {key}, but a {self.table} is one bit, 0 or 1", f"leave {key} out"
            if self.type not in (None, "bit"):
                yield "type", f"has type {self.type}, but a {self.table} is one bit", "leave type out"
        elif self.type == "bit" and self.bit is None:
            yield "type", "has type bit, but not which one", "write bit: and its number, 0 (lowest) to 15"
        elif self.bit is not None:
            if self.type not in (None, "bit", "uint16"):
                yield "type", f"has type {self.type} beside bit", "leave type out: the value is 0 or 1"
            for key in ("scale", "offset"):
                if getattr(self, key) is not None:
                    yield key, f"has {key} beside bit", f"leave {key} out: the value is 0 or 1"


class ModbusSource(Source, frozen=True, kw_only=True):
    """A device that is read over Modbus TCP, or a unit behind a gateway."""

    key = "modbus"
    label = "a tcp:// Modbus address"
    schemes = ("tcp", "modbus")
    templates = ("modbus",)
    package, extra = "pymodbus", "modbus"
    hints = Source.hints | {
        "modbus": _ADDRESS_HINT,
        "unit": _UNIT_HINT,
        "registers": "write a field of the reading and where it is on each line, such as temperature: {holding: 100}",
    }
    unknown_key_hints: ClassVar[dict[str, str]] = {
        "host(name)?|port|ip|address|endpoint": "write it into modbus:, such as tcp://10.0.0.7:502",
        "slave(_?id)?|device_?id|unit_?(id|number)|server_?id|node": "did you mean unit?",
        "register|fields|holding(_registers)?|input(_registers)?|coils?|discrete(_inputs)?|tags?": (
            "write it below registers:, such as registers: {temperature: {holding: 100, type: int16, scale: 0.1}}"
        ),
        "order|(byte|word)_?order|endian(ness)?": "write order: into each of the registers",
        "user(_?name)?|pass(word|wd)?|login|auth(entication)?|credentials": "Modbus TCP has no login: leave it out",
        "baud(_?rate)?|parity|stop_?bits|serial|rtu": "a serial line needs a gateway that speaks Modbus TCP",
    }

    modbus: str
    unit: Annotated[int, Meta(ge=0, le=MAX_UNIT)] | Literal["{n}"] = 1
    registers: Annotated[dict[str, Register], Meta(min_length=1)]

    @property
    def address(self) -> str:
        """What is polled, for people."""
        return f"{self.modbus}, unit {self.unit}"

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.modbus)
        return parts.hostname or "", parts.port or DEFAULT_PORT

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll."""
        return _ADVICE

    def numbered(self, n: int) -> Self:
        """The source that this entry stands for at one number of `{n}`, which may be its unit."""
        return msgspec.structs.replace(super().numbered(n), unit=n if self.unit == "{n}" else self.unit)

    def mistakes(self) -> Iterator[Mistake]:
        """Why the source cannot be polled: its address, its unit, its registers."""
        yield from self.address_mistakes(_address_problem)
        if self.unit == "{n}" and not self.count:
            yield Mistake(("unit",), "unit is {n}, but the source has no count", self.hints["count"])
        if self.unit == "{n}" and (self.count or 0) > MAX_UNIT:
            hint = "write {n} into modbus instead, or split the entry"
            yield Mistake(("count",), f"count is {self.count}, but units end at {MAX_UNIT}", hint)
        for name, register in self.registers.items():
            if name.startswith("_") or not name.isprintable() or not name.strip():
                hint = "write a name for the field; names that begin with _ belong to this program"
                yield Mistake(("registers", name), f"{name} cannot be a field of the reading", hint)
            for key, wrong, hint in register.mistakes():
                path = ("registers", name, key) if key else ("registers", name)
                yield Mistake(path, f"{name} in registers {wrong}", hint or Register.hints[key])

    def warnings(self, folder: Path, output: Path) -> Iterator[Mistake]:
        """What `etl check` warns of: numbers of a manual in place of addresses."""
        del folder, output
        for name, register in self.registers.items():
            first = _MANUAL_TABLES.get(register.table, MAX_ADDRESS)
            if 0 <= register.address - first < _MANUAL_NUMBERS:
                hint = f"if that is the number of a manual, write {register.table}: {register.address - first}"
                message = f"{name} in registers has the address {register.address}, and addresses count from 0"
                yield Mistake(("registers", name, register.table), message, hint)


def _address_problem(address: str) -> tuple[str, str] | None:
    """Why an address, with its unit, cannot be polled, and what to write instead; None if it can."""
    address = address.partition(", unit ")[0]
    scheme, separator, rest = address.partition("://")
    if not separator and address.startswith("/"):
        return "it is a path", "a serial line needs a gateway that speaks Modbus TCP: write its tcp:// address"
    if not separator:
        return "it has no tcp://", "write tcp://{value}" if is_url(f"http://{address}") else _ADDRESS_HINT
    if scheme.lower() != "tcp":
        return f"Modbus is polled over tcp://, not {scheme}://", _ADDRESS_HINT
    if re.search("[/?#@]", rest):
        return "it has more than a host and a port", f"{_ADDRESS_HINT}, and the unit as unit:"
    return None if is_url(f"http://{rest}") else ("its host or port cannot be read", _ADDRESS_HINT)
