"""What a machine sends: an answer's body decoded into readings."""

from __future__ import annotations

from typing import Any

import jmespath
import orjson

from etl.readings.records import RejectedError

MAX_RECORDS = 10_000
"""Readings in one answer, at most: a gateway with more machines is split into several sources."""


def parse(body: bytes) -> dict[str, Any]:
    """Decode one JSON object.

    Raises:
        RejectedError: the body is empty, not JSON (NaN, infinity and a byte order mark are not JSON), or not an object.

    """
    return _object(_json(body), "answer")


def extract(body: bytes, expression: jmespath.parser.ParsedResult) -> list[Any]:
    """Extract the records of an answer with a JMESPath expression; `as_reading` checks each of them.

    Raises:
        RejectedError: the body is empty or not JSON, the expression does not apply to it, or its result is null or has
            more than MAX_RECORDS items.

    """
    try:
        result = expression.search(_json(body))
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise RejectedError("no_records", f"`records` cannot be evaluated on the answer: {error}"[:200]) from None
    if result is None:
        raise RejectedError("no_records", "`records` matches nothing in the answer")
    records = result if isinstance(result, list) else [result]
    if len(records) > MAX_RECORDS:
        raise RejectedError("too_many", f"the answer has more than {MAX_RECORDS} records")
    return records


def as_reading(record: Any) -> dict[str, Any]:
    """Check that a record is a JSON object.

    Raises:
        RejectedError: it is not.

    """
    return _object(record, "record")


def _json(body: bytes) -> Any:
    if not body.strip():
        raise RejectedError("empty", "the answer is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RejectedError("not_json", f"the answer is not JSON: {error}") from None


def _object(value: Any, subject: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RejectedError("not_object", f"the {subject} is {_json_type(value)}, not a JSON object")
    return value


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "true or false"}.get(type(value), "a number")
