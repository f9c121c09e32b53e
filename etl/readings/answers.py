"""What a machine sends: an answer's body decoded into readings."""

from typing import Any

import jmespath
import orjson

from etl.readings.records import RejectedError

MAX_RECORDS = 10_000
"""Readings in one answer, at most: a gateway with more machines is split into several sources."""


def parse(body: bytes) -> dict[str, Any]:
    """Decode one JSON object; RejectedError if it is not one. NaN, infinity and a byte order mark are not JSON."""
    return as_reading(_json(body), "answer")


def extract(body: bytes, expression: jmespath.parser.ParsedResult) -> list[Any]:
    """Extract the records of an answer with a JMESPath expression; `as_reading` checks each of them.

    RejectedError means no JSON, or a result that is an error, null or longer than MAX_RECORDS.
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


def as_reading(value: Any, subject: str = "record") -> dict[str, Any]:
    """The value if it is a JSON object; else RejectedError, which names the subject."""
    if not isinstance(value, dict):
        raise RejectedError("not_object", f"the {subject} is {_json_type(value)}, not a JSON object")
    return value


def _json(body: bytes) -> Any:
    if not body.strip():
        raise RejectedError("empty", "the answer is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RejectedError("not_json", f"the answer is not JSON: {error}") from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "true or false"}.get(type(value), "a number")
