"""What a machine sends: an answer's body decoded into readings."""

from typing import Any

import jmespath
import orjson

from etl.readings.records import RejectedError
from etl.readings.text import clipped, excerpt

MAX_RECORDS = 10_000
"""Readings in one answer, at most: a gateway with more machines is split into several sources."""
MAX_STRUCTURE = 150_000
"""Braces, brackets and commas of one answer, at most: 10,000 records of a dozen fields. An expression over more takes
longer than half a second and cannot be interrupted, so that a larger answer is rejected before it is decoded."""
COUNTED_FROM_BYTES = 64 << 10
"""Smaller answers cannot reach a bound that matters, and are not counted."""


def parse(body: bytes) -> dict[str, Any]:
    """Decode one JSON object; RejectedError if it is not one. NaN, infinity and a byte order mark are not JSON."""
    return as_reading(_json(body), "answer", body)


def extract(body: bytes, expression: jmespath.parser.ParsedResult) -> list[Any]:
    """Extract the records of an answer with a JMESPath expression; `as_reading` checks each of them.

    RejectedError means no JSON, or a result that is an error, null or longer than MAX_RECORDS. An error that jmespath
    does not declare, such as TypeError on mixed types, is its cause.
    """
    answer = _json(body)
    try:
        result = expression.search(answer)
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise RejectedError("no_records", f"`records` cannot be evaluated on the answer: {error}"[:200]) from None
    except Exception as error:
        why = f"`records` cannot be evaluated on the answer: {type(error).__name__}: {error}"
        raise RejectedError("no_records", why[:200]) from error
    if result is None:
        raise RejectedError("no_records", f"`records` matches nothing in the answer: {excerpt(body)}")
    records = result if isinstance(result, list) else [result]
    if len(records) > MAX_RECORDS:
        raise RejectedError("too_many", f"the answer has more than {MAX_RECORDS} records")
    return records


def as_reading(value: Any, subject: str = "record", body: bytes = b"") -> dict[str, Any]:
    """The value if it is a JSON object; else RejectedError, which names the subject and its first characters."""
    if not isinstance(value, dict):
        begin = excerpt(body) if body else clipped(f"{value}", 80) if isinstance(value, (str, int, float)) else "[...]"
        raise RejectedError("not_object", f"the {subject} is {_json_type(value)}, not a JSON object: {begin}")
    return value


def _json(body: bytes) -> Any:
    if not body.strip():
        raise RejectedError("empty", "the answer is empty")
    if len(body) > COUNTED_FROM_BYTES and sum(map(body.count, (b"{", b"[", b","))) > MAX_STRUCTURE:
        raise RejectedError("too_many", f"the answer has more than {MAX_STRUCTURE:,} braces, brackets and commas")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RejectedError("not_json", f"the answer is not JSON: {error}; it begins with {excerpt(body)}") from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "true or false"}.get(type(value), "a number")
