"""What is wrong with the addresses of receivers of notifications. An address may be secret, and is not repeated."""

import importlib.util
import re
from collections.abc import Iterator

from etl.config.addresses import is_url, url_problem
from etl.config.document import KeyPath
from etl.config.model import HINTS, Notify, install_hint

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def receiver_mistakes(notify: Notify) -> Iterator[tuple[KeyPath, str, str, str]]:
    """The mistakes in all addresses: where each is, its key, a message and a hint.

    Whether Apprise knows a scheme other than http and https is for whoever may import it.
    """
    if notify.url is not None and notify.urls:
        yield ("notify", "url"), "url", "notify has both url and urls", "move the url into the list"
    for path, label, address in receivers(notify):
        if mistake := _mistake(address):
            yield path, "urls", f"{label} {mistake[0]}", mistake[1]


def receivers(notify: Notify) -> Iterator[tuple[KeyPath, str, str]]:
    """Each receiver: its place in the config, what it is called in messages, and its address."""
    if notify.url is not None:
        yield ("notify", "url"), "url", notify.url
    for i, address in enumerate(notify.urls):
        yield ("notify", "urls", i), f"item {i + 1} in urls", address


def _mistake(address: str) -> tuple[str, str] | None:
    scheme = _SCHEME.match(address)
    if not scheme or scheme[1].lower() in ("http", "https") or not address.isprintable():
        problem = None if is_url(address) else url_problem(address)
        return problem and (f"cannot be used: {problem[0]}", HINTS["url"])
    if importlib.util.find_spec("apprise") is None:
        return f"needs Apprise for {scheme[1]}://", install_hint("notify")
    return None
