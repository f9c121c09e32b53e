"""Who may ask: requests from other sites, under other names, or without the token are refused."""

from __future__ import annotations

import hmac
import re
import socket
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from flask import Response, abort, request

from api.routes import answer

TOKEN = re.compile("[!-~]+")
"""What a token is made of: characters that a header can hold."""
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?")


class Guard(NamedTuple):
    """What a request needs: to write, the `token` if there is one; to do anything, a name that is ours.

    Ours are IP addresses, names without a dot, this machine's own name and the `host` that is listened on; where others
    than this machine reach it (`exposed`), its own name in any domain too, as nobody here knows all of those. A page of
    another site that had its own name point here (DNS rebinding) would come with that name, which has a dot.
    """

    token: str = ""
    host: str = "127.0.0.1"
    exposed: bool = False


def guard_with(guard: Guard) -> Callable[[], Response | None]:
    """Build the function that runs before each request, and answers in its place where it is refused."""
    machine = socket.gethostname().lower()
    own = {guard.host.lower(), machine, f"{machine}.local"}
    ours = re.compile("|".join(map(re.escape, own)) + (rf"|{re.escape(machine)}\..*" if guard.exposed else ""))

    def refuse() -> Response | None:
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site") == "cross-site" or (
            origin and origin.partition("://")[2] != request.host
        ):
            abort(403, "Requests from other sites are refused")
        if not _is_ours(request.headers.get("Host", ""), ours):
            abort(400, "This server does not go by that name; ask it by its address, or by the name in api.host")
        if guard.token and request.method not in ("GET", "HEAD") and not _has(guard.token):
            refused = answer({"error": "This needs the token: send Authorization: Bearer and the token"}, 401)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        return None

    return refuse


def _is_ours(host: str, ours: re.Pattern[str]) -> bool:
    """Whether a Host header (empty where a program sends none) names this server."""
    match = _HOST.fullmatch(host)
    name = match[1].removesuffix(".").lower() if match else host
    if "." not in name or name.startswith("["):
        return match is not None
    try:
        IPv4Address(name)
    except AddressValueError:
        return ours.fullmatch(name) is not None
    return True


def _has(token: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())
