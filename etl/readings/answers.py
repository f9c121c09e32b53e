"""What a machine sends: an answer's body decoded into readings, and these encoded as raw lines."""

from collections import Counter
from typing import Any

import msgspec
import orjson
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

from etl.readings import exact
from etl.readings.averages.alive import Alive
from etl.readings.lines import id_of, raw_line
from etl.readings.records import Answer, Poll, RejectedError
from etl.readings.text import clipped, excerpt

MAX_RECORDS = 10_000
"""Readings in one answer, at most: a gateway with more machines is split into several sources."""
MAX_STRUCTURE = 150_000
"""Braces, brackets and commas of one answer, at most: 10,000 records of a dozen fields. Decoded, more would take
hundreds of MiB, so that a larger answer is rejected before it is decoded."""
MAX_STEPS = 600_000
"""Steps in which an expression is evaluated on one answer, at most: 60 for each of 10,000 records, about 0.3 s."""
ITEMS_PER_STEP = 8
"""Items of a list that take about as long as a step, where jmespath copies lists."""
MAX_SHOWN_ID = 40
"""Characters of an id in a message."""
COUNTED_FROM_BYTES = 64 << 10
"""Smaller answers cannot reach a bound that matters, and are not counted."""


class _Id(msgspec.Struct):
    id: Any = None


_decode_id = msgspec.json.Decoder(_Id).decode


def parse(body: bytes) -> dict[str, Any]:
    """Decode one JSON object; RejectedError if it is not one. NaN, infinity and a byte order mark are not JSON."""
    return as_reading(_json(body), "answer", body)


def reading_of(answer: Answer) -> dict[str, Any]:
    """The reading of an answer, with the answer's own `id` if it has one; RejectedError if it is none."""
    reading = parse(answer.body)
    return reading if answer.id is None else {**reading, "id": answer.id}


def raw_lines(poll: Poll, alive: Alive) -> tuple[list[bytes], list[RejectedError]]:
    """The raw lines of a poll's answers, and why the others were rejected; `alive` bounds the machines of a source."""
    lines: list[bytes] = []
    rejections = list(poll.rejections)
    at = round(poll.at, 3)
    for answer in poll.answers:
        try:
            reading = reading_of(answer)
            alive.admit(poll.source, reading.get("id"), at)
            lines.append(raw_line(reading, poll.source, at, answer.mark))
        except RejectedError as error:
            rejections.append(error.with_traceback(None))  # its frames hold the decoded answer
        except Exception as error:  # no answer may end the writer, which serves all sources
            why = f"the answer cannot be written: {type(error).__name__}: {error}"
            rejections.append(RejectedError("failed", why[:200]))
            rejections[-1].__cause__ = error
    return lines, rejections


def split(poll: Poll, expression: ParsedResult, by_key: bool = False) -> Poll:
    """Replace each answer of a poll by the records that a JMESPath expression extracts from it, each as an answer.

    With `by_key` the expression gives an object, whose keys are the ids of the records that are its values.
    `rejections` of the result says which answers have no records, and which records are not readings or share an id.
    """
    answers: list[Answer] = []
    rejections = list(poll.rejections)
    for answer in poll.answers:
        try:
            records = extract(answer.body, expression, by_key)
        except RejectedError as error:
            rejections.append(error.with_traceback(None))  # its frames hold the decoded answer
            continue
        bodies: list[bytes] = []
        for record in records:
            try:
                bodies.append(_encode(as_reading(record, "record")))
            except RejectedError as error:
                rejections.append(error.with_traceback(None))
        ids = [answer.id or id_of(_decode_id(body).id) for body in bodies]
        counts = Counter(ids)
        for body, identity in zip(bodies, ids, strict=True):
            if counts[identity] == 1:
                answers.append(Answer(body, answer.mark, answer.id))
            else:
                rejections.append(_shared_id(identity, counts[identity]))
    return msgspec.structs.replace(poll, answers=tuple(answers), rejections=tuple(rejections))


def extract(body: bytes, expression: ParsedResult, by_key: bool = False) -> list[Any]:
    """Extract the records of an answer with a JMESPath expression; `by_key` as in `split`.

    RejectedError means no JSON, or a result that is an error, null, longer than MAX_RECORDS or takes more than
    MAX_STEPS. An error that jmespath does not declare, such as TypeError on mixed types, is its cause.
    """
    answer = _json(body)
    try:
        result = _Interpreter().visit(expression.parsed, answer)
    except RejectedError:
        raise
    except (JMESPathError, RecursionError) as error:
        raise RejectedError("no_records", f"`records` cannot be evaluated on the answer: {error}"[:200]) from None
    except Exception as error:  # jmespath declares only some of what it raises
        why = f"`records` cannot be evaluated on the answer: {type(error).__name__}: {error}"
        raise RejectedError("no_records", why[:200]) from error
    if result is None:
        raise RejectedError("no_records", f"`records` matches nothing in the answer: {excerpt(body)}")
    records = _by_key(result) if by_key else result if isinstance(result, list) else [result]
    if len(records) > MAX_RECORDS:
        raise RejectedError("too_many", f"the answer has more than {MAX_RECORDS:,} records")
    return records


def _by_key(result: Any) -> list[Any]:
    """The values of an object, each with its key as `id`."""
    if not isinstance(result, dict):
        why = f"`records` gives {_json_type(result)}; with `id: key` it must give an object whose keys are the ids"
        raise RejectedError("no_records", why)
    return [{**value, "id": key} if isinstance(value, dict) else value for key, value in result.items()]


def _shared_id(identity: str | int | float | None, count: int) -> RejectedError:
    hint = "let `records` select an id that no other record has, or set `id: key` if the keys of an object are the ids"
    if identity is None:
        return RejectedError("shared_id", f"{count:,} records of the answer have no id; {hint}")
    shown = msgspec.json.encode(identity).decode()[:MAX_SHOWN_ID]
    return RejectedError("shared_id", f"{count:,} records of the answer have the id {shown}; {hint}")


class _Interpreter(TreeInterpreter):
    """Evaluates an expression in at most MAX_STEPS: a thread that evaluates cannot be interrupted."""

    def __init__(self) -> None:
        super().__init__()
        self._steps_left = MAX_STEPS
        self._methods = {name[6:]: getattr(self, name) for name in dir(self) if name.startswith("visit_")}

    def visit(self, node: Any, *args: Any, **_: Any) -> Any:
        result = self._methods[node["type"]](node, *args)
        self._steps_left -= 1
        if type(result) is list:
            self._steps_left -= len(result) // ITEMS_PER_STEP
        if self._steps_left < 0:
            raise RejectedError("too_many", f"`records` takes more than {MAX_STEPS:,} steps on the answer")
        return result


def as_reading(value: Any, subject: str = "answer", body: bytes = b"") -> dict[str, Any]:
    """The value if it is a JSON object; else RejectedError, which names the subject and its first characters."""
    if not isinstance(value, dict):
        begin = excerpt(body) if body else clipped(f"{value}", 80) if isinstance(value, (str, int, float)) else "[...]"
        raise RejectedError("not_object", f"the {subject} is {_json_type(value)}, not a JSON object: {begin}")
    return value


def _encode(record: dict[str, Any]) -> bytes:
    try:
        # Copied: the bytes orjson returns keep a 4 KiB buffer alive, and answers wait in queues.
        return memoryview(exact.dumps(record)).tobytes()
    except orjson.JSONEncodeError as error:
        raise RejectedError("too_deep", f"the record cannot be written: {error}") from None


def _json(body: bytes) -> Any:
    if len(body) > COUNTED_FROM_BYTES and sum(map(body.count, (b"{", b"[", b","))) > MAX_STRUCTURE:
        raise RejectedError("too_many", f"the answer has more than {MAX_STRUCTURE:,} braces, brackets and commas")
    try:
        return exact.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise RejectedError("empty", "the answer is empty") from None
        raise RejectedError("not_json", f"the answer is not JSON: {error}; it begins with {excerpt(body)}") from None


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "true or false"}.get(type(value), "a number")
