"""Who gets notifications: http and https addresses get JSON, those of other services go through Apprise."""

import difflib
import logging
import re
from typing import Any
from urllib.parse import unquote

import orjson

from etl.live.notifications.messages import Message
from etl.readings.records import Failure
from etl.readings.text import clipped

TITLE = "Machine telemetry"
"""The subject or headline of a message, where a service has one."""
MAX_WHY = 200
"""Characters of what a service answered."""


def scheme_of(address: str) -> str:
    """The scheme of an address: https, mailto, slack ..."""
    return address.partition("://")[0].lower()


def address_problem(address: str) -> tuple[str, str] | None:
    """Why Apprise cannot use an address, and what to write instead; None if it can, or if it is an http address.

    The address itself is not repeated: it may be secret.
    """
    scheme = scheme_of(address)
    if scheme in ("http", "https") or _service(address):
        return None
    services = _apprise().Apprise().details()["schemas"]
    known = {name for service in services for key in ("protocols", "secure_protocols") for name in service[key] or ()}
    if scheme in known:
        return f"Apprise cannot read this {scheme}:// address", f"write it as Apprise documents it for {scheme}://"
    near = difflib.get_close_matches(scheme, known | {"http", "https"}, 1, 0.7)
    hint = f"did you mean {near[0]}://?" if near else "write an http:// or https:// address, or one of Apprise"
    return f"neither this program nor Apprise knows {scheme}://", hint


def deliver(address: str, message: Message, timeout: float) -> Failure | None:
    """Send a notification; the failure unless it was accepted. `timeout` in seconds is that of an http address."""
    if scheme_of(address) in ("http", "https"):
        from etl.sources.http.requests_transport import post  # noqa: PLC0415  requests takes 6 MiB, and few notify

        return post(address, orjson.dumps(message), timeout)
    return _deliver_by_apprise(address, message["text"])


def _deliver_by_apprise(address: str, text: str) -> Failure | None:
    """Send a text through Apprise, whose first warning says what the service answered."""
    apprise = _apprise()
    receiver = apprise.Apprise()
    try:
        receiver.add(_service(address))
        result = receiver.notify(text, TITLE, body_format=apprise.NotifyFormat.TEXT)
    except Exception as error:  # a hundred services have as many ways to fail, and none may end the thread
        return Failure("failed", f"Apprise failed with {type(error).__name__}")
    if result:
        return None
    warnings = (entry.message for entry in result.logs() if entry.level in ("WARNING", "ERROR"))
    why = without_secrets(next(warnings, "the service did not accept it"), address)
    return Failure("refused", clipped(why, MAX_WHY))


def _apprise() -> Any:
    """The module, imported only when it is used: it takes 35 MiB and a quarter of a second of CPU."""
    import apprise  # noqa: PLC0415

    logging.getLogger("apprise").propagate = False  # its lines name receivers, which may be secret
    return apprise


def _service(address: str) -> Any:
    """The service of an address as Apprise has it; None if it cannot read it."""
    return _apprise().Apprise.instantiate(address, suppress_exceptions=True)


def without_secrets(text: str, address: str) -> str:
    """A text in which every word of an address, except for its scheme, is replaced by a star."""
    rest = address.partition("://")[2]
    words = {word for part in (rest, unquote(rest)) for word in re.split(r"\W+", part) if word}
    return re.sub(r"\w+", lambda match: "*" if match[0] in words else match[0], text)
