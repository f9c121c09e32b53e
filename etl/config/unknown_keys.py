"""Keys that this program does not have: what to write where somebody expects them."""

import difflib
import re

import msgspec

from etl.config.model import HINTS, Alarm, Api, Config, Notify, Output, Report
from etl.config.sources.base import Source
from etl.config.sources.kinds import KINDS, any_kind, choices, kinds_with

_FOR_ALL = "it is the same for all sources: write it once, at the top, without indentation"
_KIND = f"a source is {choices()}"
_REPORT = "the report is written beside the readings, as JSON and as a page; notify: sends its summary to an address"

_MEANT: dict[type[msgspec.Struct], dict[str, str]] = {
    Source: {
        "interval|window|timezone|parameters|units|transport|shard": _FOR_ALL,
        "poll_?interval|period|every|frequency|schedule": f"set interval: {_FOR_ALL}",
        "fields|values|metrics|measurements|columns": f"set parameters: {_FOR_ALL}",
        "path": "write file: for a file of this machine; the path of an address belongs into url:",
        "type|protocol|kind|topic|broker|node(_id)?|register|unit_id|plugin": _KIND,
        "id|machine|label": "set name: to tell sources apart; a machine's id comes from its readings",
        "jmespath|jsonpath|json_path|select|expression|json_query": "set records: to a JMESPath expression",
        "retr(y|ies)": "a poll that fails is repeated at the next interval",
        "enabled?|disabled?|active": "put # before each of its lines to leave a source out",
    },
    Config: {
        "source|devices?|targets?|inputs?|urls?": HINTS["sources"],
        "machines": "machines to poll are sources:, a list; machines: below api: is how many to simulate",
        "poll_?interval|period|every|frequency": "did you mean interval?",
        "tz|time_?zone|zone": "did you mean timezone?",
        "fields|values|metrics": "did you mean parameters?",
        "unit": "did you mean units?",
        "log(_?level|ging|_file|_format)?": "the log goes to stderr; etl run --log-format json chooses its format",
        "alerts?|alarm|rules|limits|thresholds?": HINTS["alarms"],
        "e?mail|webhooks?|slack|notifications?": "set urls: below notify:, a list of addresses",
        "database|influx(db)?|mqtt|kafka|prometheus|exporters?|outputs": (
            "readings go to files and stdout as JSON lines, figures to /metrics; other programs take them from there"
        ),
    },
    Alarm: {
        "max(imum)?|high|upper|over|greater(_than)?|gt": "did you mean above?",
        "min(imum)?|low(er)?|under|less(_than)?|lt": "did you mean below?",
        "hold|duration|delay|since": "did you mean for?",
        "hysteresis|band": "did you mean deadband?",
        "field|value|metric|average": "did you mean parameter?",
        "source|machines?|match|pattern": "did you mean sources?",
        "state": "did you mean status?",
    },
    Output: {
        "path|dir(ectory)?|file": "did you mean folder?",
        "retention|max_age|days|keep": "did you mean keep_days?",
        "compression|gzip": "set compress: gzip",
        "format|type": "the files hold JSON lines",
        "rotat(e|ion)": "each day has files of its own, without rotation",
    },
    Report: {
        "time|hour|schedule": "did you mean at?",
        "anomaly_threshold|limit|deviation": "did you mean threshold?",
        "format|type|e?mail|recipients|to": _REPORT,
    },
    Api: {
        "user(_?name)?|pass(word)?|auth(orization)?|api_?key": "set token: that writes then need",
        "tls|ssl|https|cert(ificate)?|key(_file)?": "serve HTTPS by a proxy before it, such as nginx",
        "enabled?|active": "did you mean serve?",
        "address|listen|bind": "did you mean host?",
    },
    Notify: {
        "webhooks?|uri|endpoint|address(es)?|receivers?": "did you mean urls?",
        "e?mail|to|slack|teams|ntfy|channel": "write an address of Apprise below urls:, such as mailto:// or slack://",
        "headers?|token|user(_?name)?|password": "write the login into url, kept in a variable: ${NOTIFY_URL}",
    },
}
"""Patterns of keys and their hint, by the group that has none of them."""
_GROUPS: dict[type[msgspec.Struct], str] = {
    Config: "at the top, without indentation",
    Source: "in a source",
    Alarm: "in an alarm, below alarms:",
    Output: "below output:",
    Report: "below report:",
    Api: "below api:",
    Notify: "below notify:",
}
"""Where the keys of each struct belong; the first one that has a key counts."""


def unknown_key(key: str, kind: type[msgspec.Struct]) -> tuple[str, str]:
    """The message about a key that a group does not have, and what to write instead."""
    message = f"unknown key {key}"
    if hint := _expected_hint(key, kind):
        return message, hint
    if issubclass(kind, Source) and kind in KINDS.values() and (names := kinds_with(key, besides=kind)):
        return f"{key} belongs to {names}, this source has {kind.key}:", "leave it out"
    place = next((place for group, place in _GROUPS.items() if key in _keys(group)), None)
    if place:
        return message, f"it belongs {place}"
    keys = kind.__struct_encode_fields__
    if near := difflib.get_close_matches(key, keys, 1, 0.5):
        return message, f"did you mean {near[0]}?"
    is_of_a_kind = kind in KINDS.values() or not issubclass(kind, Source)
    return message, f"known keys: {', '.join(keys)}" if is_of_a_kind else _KIND


def _keys(group: type[msgspec.Struct]) -> tuple[str, ...]:
    return (any_kind() if group is Source else group).__struct_encode_fields__


def _expected_hint(key: str, group: type[msgspec.Struct]) -> str | None:
    """What to write instead of a key that a group does not have; None if it is not among the expected ones."""
    meant = _MEANT[Source] if issubclass(group, Source) else _MEANT.get(group, {})
    patterns: dict[str, str] = {**getattr(group, "unknown_key_hints", {}), **meant}
    word = key.replace("-", "_")
    return next((hint for pattern, hint in patterns.items() if re.fullmatch(pattern, word, re.IGNORECASE)), None)
