"""JSON whose numbers stay what was sent, also those that neither 64 bits nor a double hold."""

import json
from contextlib import suppress
from typing import Any

import orjson

_SHAPE = bytes.maketrans(b"123456789.E", b"0000000000e")
_LONG, _TINY = b"0" * 16, b"e-000"
"""A number that orjson changes has one of these shapes: 16 digits, or an exponent below those of doubles."""


class LongInt(int):
    """An integer beyond 64 bits, which orjson would decode as a float."""

    __slots__ = ()


class LongFloat(float):
    """A number as it was written, `text`, which may have more digits than its nearest double."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


LongInt.__name__, LongFloat.__name__ = "int", "float"  # jmespath's functions accept numbers by the name of their type


def loads(body: bytes) -> Any:
    """Decode JSON; orjson.JSONDecodeError if it is none. Numbers that orjson would change are LongInt or LongFloat."""
    value = orjson.loads(body)
    shape = body.translate(_SHAPE)
    if _LONG in shape or (b"e-" in shape and _TINY in shape):
        with suppress(RecursionError):  # nested deeper than can be encoded, which the caller finds out
            return json.loads(body.decode(), parse_int=_integer, parse_float=LongFloat)
    return value


def dumps(value: Any) -> bytes:
    """Encode what `loads` returned, its numbers as they were sent; orjson.JSONEncodeError if nested too deep."""
    try:
        return orjson.dumps(value, _fragment, orjson.OPT_PASSTHROUGH_SUBCLASS)
    except orjson.JSONEncodeError as error:
        if "64-bit" not in str(error):
            raise
    try:
        return dumps(_with_long_ints(value))
    except RecursionError:
        raise orjson.JSONEncodeError("Recursion limit reached") from None


def _with_long_ints(value: Any) -> Any:
    """The value with a LongInt for each integer beyond 64 bits, which an expression may have made of a text."""
    if isinstance(value, list):
        return [_with_long_ints(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_long_ints(item) for key, item in value.items()}
    return _integer(str(value)) if type(value) is int else value


def _integer(text: str) -> int:
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 64 else LongInt(value)


def _fragment(value: Any) -> orjson.Fragment:
    if isinstance(value, LongInt):
        return orjson.Fragment(int.__repr__(value))
    if isinstance(value, LongFloat):
        return orjson.Fragment(value.text)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
