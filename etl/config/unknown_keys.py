"""Keys that this program does not have: what to write where somebody expects them."""

import re

import msgspec

from etl.config.model import HINTS, Alarm, Api, Config, Notify, Output, Report, Source

_FOR_ALL = "it is the same for all sources: write it once, at the top, without indentation"
_LOGIN = "write it into url, http://user:password@host/, or into a header, headers: {Authorization: Bearer ...}"
_URL = "write it into url:, such as http://10.0.0.7:8080/data"
_CERTIFICATE = "certificates are always verified: set ca_file to a PEM file with the one to trust"
_PROTOCOL = "a source is an http:// address (url:) or a JSON file (file:)"
_REPORT = "the report is written beside the readings, as JSON and as a page; notify: sends its summary to an address"

_MEANT: dict[type[msgspec.Struct], dict[str, str]] = {
    Source: {
        "interval|window|timezone|parameters|units|transport|shard": _FOR_ALL,
        "poll_?interval|period|every|frequency|schedule": f"set interval: {_FOR_ALL}",
        "fields|values|metrics|measurements|columns": f"set parameters: {_FOR_ALL}",
        "user(_?name)?|pass(word|wd)?|login|auth(orization|entication)?|basic_?auth|bearer|credentials": _LOGIN,
        "(bearer_|api_|access_)?token|api_?key": _LOGIN,
        "header|http_headers": "did you mean headers?",
        "path": "write file: for a file of this machine; the path of an address belongs into url:",
        "host(name)?|port|ip|query|params|scheme": _URL,
        "address|endpoint|link": "did you mean url?",
        "verify(_ssl|_tls)?|insecure(_skip_verify)?|ssl|tls|ca(cert|_cert|_bundle)?|cert(ificate)?": _CERTIFICATE,
        "type|protocol|kind|topic|broker|node(_id)?|register|unit_id|plugin": _PROTOCOL,
        "method|body|data|payload": "every poll is a GET request without a body",
        "id|machine|label": "set name: to tell sources apart; a machine's id comes from its readings",
        "jmespath|jsonpath|json_path|select|expression|json_query": "set records: to a JMESPath expression",
        "retr(y|ies)": "a poll that fails is repeated at the next interval",
        "proxy|proxies": "proxies come from the environment: http_proxy, https_proxy, no_proxy",
        "enabled?|disabled?|active": "put # before each of its lines to leave a source out",
    },
    Config: {
        "source|devices?|targets?|inputs?|urls?": HINTS["sources"],
        "machines": "machines to poll are sources:, a list; machines: below api: is how many to simulate",
        "poll_?interval|period|every|frequency": "did you mean interval?",
        "tz|time_?zone|zone": "did you mean timezone?",
        "fields|values|metrics": "did you mean parameters?",
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


def hint_for(key: str, group: type[msgspec.Struct]) -> str | None:
    """What to write instead of a key that a group does not have; None if it is not among the expected ones."""
    patterns = _MEANT.get(group, {}).items()
    return next(
        (hint for pattern, hint in patterns if re.fullmatch(pattern, key.replace("-", "_"), re.IGNORECASE)), None
    )
