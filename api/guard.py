"""Refuses requests that come from other sites, name another host, or write without the token."""

import hmac
import re
import socket
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network
from typing import NamedTuple

from flask import Response, abort, request

from api.routes import json_response

TOKEN = re.compile("[!-~]+")
"""A valid token: printable ASCII without spaces, as an HTTP header can carry it."""
NAME = re.compile(r"([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
"""A valid name of `Guard.names`: a host as in a URL, with the port if it is not the default. No wildcards."""
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]*)?")
_DEFAULT_PORT = re.compile(r":(80|443)\Z")


class Guard(NamedTuple):
    """The checks of a request: each needs a Host header that names this server; a write needs the `token`, if set.

    Accepted are IP addresses, names without a dot, the hostname of this machine, `host` (the address the server listens
    on), if other machines can reach it (`exposed`) the hostname in any domain, and `names`: those under which browsers
    reach a reverse proxy in front of this server. A page of another site that resolves its own name to this server (DNS
    rebinding) sends that name, which has a dot. The X-Forwarded headers count if they come from the network `proxy`.
    """

    token: str = ""
    host: str = "127.0.0.1"
    exposed: bool = False
    names: tuple[str, ...] = ()
    proxy: IPv4Network | IPv6Network | None = None


def guard_with(guard: Guard) -> Callable[[], Response | None]:
    """Build the function that runs before each request and returns or raises the refusal, if it is refused."""
    machine = socket.gethostname().lower()
    sites = {_DEFAULT_PORT.sub("", name.lower()) for name in guard.names}
    names = {guard.host.lower(), machine, f"{machine}.local", *(re.sub(r":[0-9]+\Z", "", site) for site in sites)}
    accepted = re.compile("|".join(map(re.escape, names)) + (rf"|{re.escape(machine)}\..*" if guard.exposed else ""))

    def refuse() -> Response | None:
        origin = request.headers.get("Origin")
        if request.headers.get("Sec-Fetch-Site") == "cross-site" or (origin and not _is_same_site(origin, sites)):
            abort(403, "Requests from other sites are refused; behind a reverse proxy, list this site in api.names")
        if not _names_this_server(request.headers.get("Host", ""), accepted):
            abort(400, "The Host header names another server; use an IP address, or list the name in api.names")
        if not guard.token or request.method in ("GET", "HEAD") or _has_token(guard.token):
            return None
        refusal = json_response({"error": "Writes need the token: send Authorization: Bearer TOKEN"}, 401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    return refuse


def _is_same_site(origin: str, sites: set[str]) -> bool:
    """Whether an Origin is the host of the request, or a name of this server that a proxy has replaced in it."""
    host = origin.partition("://")[2]
    return host == request.host or _DEFAULT_PORT.sub("", host.lower()) in sites


def _names_this_server(host: str, accepted: re.Pattern[str]) -> bool:
    """Whether a Host header names this server; it is empty where a program sends none."""
    match = _HOST.fullmatch(host)
    name = match[1].removesuffix(".").lower() if match else host
    if "." not in name or name.startswith("["):
        return match is not None
    try:
        IPv4Address(name)
    except AddressValueError:
        return accepted.fullmatch(name) is not None
    return True


def _has_token(token: str) -> bool:
    scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), token.encode())
