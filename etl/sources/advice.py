"""What to change at a source that does not answer, or whose answers give no averages. Pure."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import jmespath
import orjson

from etl.config.sources.base import Source
from etl.readings import exact
from etl.readings.averages.no_number import quality_of
from etl.readings.averages.window import number
from etl.readings.records import Failure
from etl.readings.text import clipped, shown_key
from etl.sources.not_json import about_text

MAX_PATHS = 200
"""Places in an answer that are searched, and keys of an object: the first machine shows what the others have."""
MAX_DEPTH = 4
"""Levels below the top of an answer that are searched."""
MAX_FIELDS = 8
"""Fields of a reading that a message names."""
MAX_KEY_CHARACTERS = 100
"""Characters of a key that a suggested expression names."""
SAMPLE_ITEMS = 3
"""Items of each list that suggested expressions are tried on."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ERROR_KEYS = ("error", "errors", "fault", "exception", "message", "detail")
_VALUE_KEYS = {"value", "val", "v", "current", "now"}
"""Keys of a number below the key that names it: {"temperature": {"value": 21.5, "unit": "C"}}."""
_FAILURE_HINTS = {
    "cannot be read": "check the path, its owner and its mode; a file of certificates is in PEM format",
    "self": "save the machine's certificate as a PEM file, and set ca_file to its path",
    "issuer": "save the certificate of the authority that signed it as a PEM file, and set ca_file to its path",
    "mismatch": "write the host's name as the certificate has it into the address",
    "does not match": "write the host's name as the certificate has it into the address",
    "tls": "does the machine speak TLS on this port? Else see which certificate it shows",
    "protocol": "does the machine speak another protocol on this port?",
    "refused": "nothing listens on this port: is the machine on, and is the port right?",
    "dns": "check the host's name in the address, or write its IP address",
    "timeout": "is the address right and reachable from here? A slow machine needs a longer timeout",
    "network": "is the address right and reachable from here?",
    "busy": "this process has more to poll than it can: set a longer interval, or divide the sources with shard",
    "reset": "the machine closed the connection: does it serve this protocol on this port, and another client now?",
    "too_large": "ask the machine for less, or split the source into several",
}
"""What to do about a failure of any kind of source: by words of its sentence, else by its code; the first counts."""
_ID_NAME = re.compile(r".*(id|serial|number|name|machine|nr|no|sn|key|address|mac)", re.IGNORECASE)
"""Keys that may identify a machine: a measured value that differs by chance does not."""


def failure_hint(failure: Failure, source: Source) -> str | None:
    """What to do about a poll of a source that failed."""
    hints = {**source.advice, **{key: hint for key, hint in _FAILURE_HINTS.items() if key not in source.advice}}
    by_words = [hint for words, hint in hints.items() if words in failure.why]
    is_told_by_words = failure.reason in ("http_status", "tls", "service_fault", "exception")
    return by_words[0] if by_words and is_told_by_words else hints.get(failure.reason)


def missing_number(reading: Mapping[str, Any], field: str) -> str:
    """Why a reading has no number as `field`, with the fields it has and a similar name."""
    if quality := quality_of(reading, field):
        return f"{field} is {shown_json(reading[field], 60)}, with the quality {clipped(quality, 60)}"
    if field in reading:
        return f"{field} is {_described(reading[field])}"
    fields = [shown_key(name, 40) for name in islice(reading, MAX_FIELDS)]
    rest = ", ..." if len(reading) > MAX_FIELDS else ""
    has = f"has no {shown_key(field, 40)}; it has {', '.join(fields)}{rest}" if fields else "is empty"
    near = similar(field, reading)
    return f"the reading {has}" + (f"; did you mean {shown_key(near, 40)}?" if near else "")


def quality_hints(reading: Mapping[str, Any], source: Source) -> list[str]:
    """What to do about the values of a reading that the source calls bad, as far as the kind of source has advice."""
    hints = [(field, source.advice.get(quality_of(reading, field))) for field in islice(reading, MAX_PATHS)]
    return [f"{shown_key(field, 40)}: {hint}" for field, hint in hints if hint]


def similar(field: str, names: Iterable[str]) -> str | None:
    """The name that is most like a field's, whatever its case, spaces and dashes; None if none is."""
    plain = {_plain(name): name for name in islice(names, MAX_PATHS)}
    near = difflib.get_close_matches(_plain(field), plain, 1, 0.6)
    return plain[near[0]] if near else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def hints(
    body: bytes, records: str | None, readings: list[dict[str, Any]], fields: Iterable[str], by_key: bool = False
) -> list[str]:
    """What to change so that the readings of an answer have numbers in `fields`.

    `readings` were taken from it with the expression `records` of the config, `by_key` with `id: key`.
    """
    try:
        answer = exact.loads(body)
    except orjson.JSONDecodeError:
        return [about_text(body)]
    fields = list(dict.fromkeys(fields))
    if isinstance(answer, list) and not records:
        readings = []  # a document's items are polled in turn
    score, sample, advice = _score(readings, fields), _sampled(answer), []
    if better := _better(sample, fields, score):
        if better.expression != records:
            without = ", without id: key" if by_key and not better.keyed else ""
            advice.append(_records_hint(answer, better) + without)
        readings = [] if better.keyed else _readings(answer, better.expression)
    elif not score and (not readings or not records):
        advice += _about_structure(answer, sample, fields)
    if isinstance(answer, dict) and not score and (keys := [key for key in _ERROR_KEYS if answer.get(key)]):
        advice.append(
            f"this looks like an error of the machine: {clipped(keys[0], 40)} is {_described(answer[keys[0]])}"
        )
    return advice + _about_ids(readings, records or "", fields)


class _Suggestion(NamedTuple):
    """An expression for `records`, and the readings that it selects from a sample of the answer."""

    expression: str
    readings: list[dict[str, Any]]

    @property
    def keyed(self) -> bool:
        """Whether the machines are told apart by the keys of an object, and have no ids."""
        return self.expression.startswith("values(") and not all("id" in reading for reading in self.readings)


def _better(sample: Any, fields: list[str], score: int) -> _Suggestion | None:
    """The plainest expression that gives the most numbers, and more than `score`."""
    suggestions = [_Suggestion(text, _readings(sample, text)) for text in _candidates(sample, fields)]
    best = max(suggestions, key=lambda each: _score(each.readings, fields), default=None)
    return best if best and _score(best.readings, fields) > score else None


def _about_structure(answer: Any, sample: Any, fields: list[str]) -> Iterator[str]:
    """What an answer is that has none of the fields: where its objects are, and which numbers they have."""
    groups = sorted(_groups(sample, "", 0), key=lambda group: not group[0].startswith("values("))
    if not groups:
        yield f"the answer is {shown_json(sample, 60)}: a reading is a JSON object"
    elif isinstance(answer, list):
        yield f"the answer is a list: set {_as_yaml(groups[0][0])}"
    for expression, reading in groups:
        places = [place for place, _ in islice(_places(reading, "", 0), MAX_FIELDS)]
        if expression == "@":
            places = [place for place in places if "." in place]  # the others are in the sentence on the reading
        if places and expression.startswith("values("):
            fields_hint = f"and name them in parameters, such as {fields[0]}: {places[0]}"
            yield f"each object has the numbers {', '.join(places)}: set {_by_key(expression)}, {fields_hint}"
            return
        if places:
            measured = [place for place in places if not _ID_NAME.fullmatch(place)] or places
            near = max(measured, key=lambda place: difflib.SequenceMatcher(None, fields[0], place).ratio())
            example = _picked(expression, {fields[0]: near})
            subject = "the answer" if expression == "@" else expression
            yield f"{subject} has the numbers {', '.join(places)}: name them, such as {_as_yaml(example)}"
            return


def _picked(expression: str, places: Mapping[str, str]) -> str:
    """An expression for readings of these keys, each with the expression of its value."""
    pairs = ", ".join(f"{_identifier(key)}: {place}" for key, place in places.items())
    several = "[]" if expression.startswith("values(") else ""
    return ("" if expression == "@" else f"{expression}{several}.") + f"{{{pairs}}}"


def _as_yaml(expression: str) -> str:
    """The key of the config as YAML, which reads JSON strings."""
    return f"records: {json.dumps(expression, ensure_ascii=False)}"


def _records_hint(answer: Any, suggestion: _Suggestion) -> str:
    """The keys of the config that select the readings, as YAML."""
    expression = suggestion.expression
    if isinstance(answer, list):
        subject = "the answer is a list"
    elif suggestion.keyed:
        return f"the answer has an object for each machine: set {_by_key(expression)}, which makes its key the id"
    elif "to_number" in expression:
        subject = "the answer has numbers as text"
    elif expression.startswith("{") and "." not in expression:
        subject = "the machine has other names for the fields: write them below parameters, or"
        return f"{subject} set {_as_yaml(expression)}"
    else:
        subject = "the readings are inside the answer"
    return f"{subject}: set {_as_yaml(expression)}"


def _by_key(expression: str) -> str:
    """The keys of the config that take the values of an object, `values(...)`, as readings and its keys as ids."""
    return f"{_as_yaml(expression.removeprefix('values(').removesuffix(')'))} and id: key"


def _described(value: Any) -> str:
    """A value as a message names it."""
    if isinstance(value, str):
        numeric = " in quotes, which is text" if _is_numeric(value) else ""
        return f'"{clipped(value, 60)}"{numeric or " (text)"}'
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'}: {shown_json(value, 60)}"
    return f"{shown_json(value, 60)}, not a number that can be averaged"


def _is_numeric(text: str) -> bool:
    try:
        return number(float(text)) is not None
    except ValueError:
        return False


def shown_json(value: Any, limit: int) -> str:
    """The first characters of a value as JSON, without what is nested deeper than MAX_DEPTH."""
    return clipped(json.dumps(_sampled(value), ensure_ascii=False, separators=(",", ":"), default=str), limit)


def _sampled(value: Any, depth: int = 0) -> Any:
    """A value with the first items of its lists and objects; what is nested deeper than MAX_DEPTH is null."""
    if depth > MAX_DEPTH + 1 and isinstance(value, (list, dict)):
        return None
    if isinstance(value, list):
        return [_sampled(item, depth + 1) for item in value[:SAMPLE_ITEMS]]
    if isinstance(value, dict):
        return {key: _sampled(item, depth + 1) for key, item in islice(value.items(), MAX_PATHS)}
    return value


def _readings(answer: Any, expression: str) -> list[dict[str, Any]]:
    """The objects that an expression selects; none if it fails."""
    try:
        selected = jmespath.search(expression, answer)
    except Exception:  # jmespath raises TypeError and others on mixed types
        return []
    return [record for record in (selected if isinstance(selected, list) else [selected]) if isinstance(record, dict)]


def _score(readings: list[Any], fields: list[str]) -> int:
    """How many fields have a number in the first reading."""
    return sum(number(readings[0].get(field)) is not None for field in fields) if readings else 0


def _candidates(answer: Any, fields: list[str]) -> Iterator[str]:
    """Expressions that may select the readings of an answer, the plainest first."""
    groups = list(islice(_groups(answer, "", 0), MAX_PATHS))
    yield from (expression for expression, _ in groups)
    for expression, reading in groups:
        places = dict(islice(_places(reading, "", 0), MAX_PATHS))
        chosen = {field: place for field in fields if (place := _place(field, places))}
        if chosen:
            keep = {key: _identifier(key) for key in ("id", "name", "status", "timestamp") if key in reading}
            yield _picked(expression, keep | chosen)


def _groups(value: Any, path: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Expressions that lead to objects, breadth before depth, each with the first object."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, list):
        first = next((item for item in value if isinstance(item, (dict, list))), None)
        if isinstance(first, dict):
            yield f"{path}[]", first
        elif first is not None:
            yield from _groups(first, f"{path}[]", depth + 1)
        return
    if not isinstance(value, dict):
        return
    yield path or "@", value
    if len(value) > 1 and all(isinstance(item, dict) for item in value.values()):
        common = set.intersection(*(set(item) for item in value.values()))
        if common - _VALUE_KEYS - {"unit", "units"}:  # else an object for each value, not for each machine
            yield f"values({path or '@'})", next(iter(value.values()))
    for key, item in _nameable(value):
        yield from _groups(item, f"{path}.{_identifier(key)}" if path else _identifier(key), depth + 1)


def _places(value: dict[str, Any], path: str, depth: int) -> Iterator[tuple[str, str]]:
    """The numbers in an object, by their expression, each with the key that names it; those in text are converted."""
    for key, item in _nameable(value):
        place = f"{path}.{_identifier(key)}" if path else _identifier(key)
        name = path.rpartition(".")[2] if path and key.lower() in _VALUE_KEYS else key
        if number(item) is not None:
            yield place, name
        elif isinstance(item, str) and _is_numeric(item):
            yield f"to_number({place})", name
        elif isinstance(item, dict) and depth < MAX_DEPTH:
            yield from _places(item, place, depth + 1)


def _nameable(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The items whose key an expression can name."""
    return ((key, item) for key, item in islice(value.items(), MAX_PATHS) if len(key) <= MAX_KEY_CHARACTERS)


def _place(field: str, places: dict[str, str]) -> str | None:
    """The expression of a field's number: the place that the field names, whatever its case and underscores."""
    exact = (place for place, key in places.items() if key == field)
    return next(exact, None) or next((place for place, key in places.items() if _plain(key) == _plain(field)), None)


def _identifier(key: str) -> str:
    """A key as JMESPath writes it."""
    return key if _PLAIN.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _about_ids(readings: list[dict[str, Any]], records: str, fields: list[str]) -> list[str]:
    """A hint if several readings of one answer would be taken for one machine."""
    if len(readings) < 2 or _identifies("id", readings):
        return []
    if records.startswith("values("):
        return [f"the readings have no id of their own: set {_by_key(records)}, which makes the keys the ids"]
    keys = [key for key in islice(readings[0], MAX_PATHS) if key not in fields and _ID_NAME.fullmatch(key)]
    serial = next((key for key in keys if _identifies(key, readings)), None)
    example = f"id: {_identifier(serial)}" if serial else "id: serial"
    return [f"each reading of an answer needs an id of its own: let records name it, such as {{{example}, ...}}"]


def _identifies(key: str, readings: list[dict[str, Any]]) -> bool:
    """Whether the values of a key can tell readings apart."""
    values = [reading.get(key) for reading in readings]
    are_ids = all(isinstance(value, (str, int)) and type(value) is not bool for value in values)
    return are_ids and len(set(values)) == len(values)
