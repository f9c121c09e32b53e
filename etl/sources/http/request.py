"""What every HTTP transport sends: one set of rules for the URL, the headers, the login and the proxy."""

import os
import re
import socket
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment

from etl.readings.records import Failure
from etl.sources.contract import AGENT, Target
from etl.sources.http.answer import FailedError
from etl.sources.http.digest import Digest

_PORTS = {"http": 80, "https": 443}
_SAFE = "!$&'()*+,/:;=?@%"
"""Characters that stay as they are in a path and a query, beside letters, digits and -._~."""


class HttpRequest(NamedTuple):
    """The request of every poll of a source.

    The URL is ASCII and has no login; `proxy` is empty without one; `trusted` is a file or folder of certificates, None
    for those that the library trusts.
    """

    method: str
    url: str
    headers: dict[str, bytes]
    proxy: str
    trusted: str | None
    digest: Digest | None

    def login(self) -> dict[str, bytes]:
        """The header of a login by digest, once the machine has sent a challenge."""
        target = self.url.split("/", 3)[3]
        login = self.digest and self.digest.authorization(self.method, f"/{target}")
        return {"Authorization": login} if login else {}

    def accepts(self, challenge: str) -> bool:
        """Take the challenge of a 401; False if this source has no login by digest, or cannot answer it."""
        return self.digest is not None and self.digest.accept(challenge)


def closes_connection(headers: Mapping[str, bytes]) -> bool:
    """Whether a request with these headers is the last of its connection."""
    return any(name.lower() == "connection" and b"close" in text.lower() for name, text in headers.items())


def prepare(source: Target, proxies: Mapping[str, str]) -> HttpRequest:
    """The request of every poll of a source; `proxies` are those of `environment_proxies`.

    Raises:
        FailedError: the URL or the proxy cannot be used.

    """
    try:
        parts = urlsplit(source.url)
        host, port = _host(parts.hostname or ""), parts.port
    except ValueError as error:
        raise FailedError(Failure("failed", "the request cannot be made: its url is not valid")) from error
    if any(re.search(r"[\r\n\0]", name + value) for name, value in source.headers.items()):
        raise FailedError(Failure("failed", "the request cannot be made: a header has more than one line"))
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": AGENT}
    if "%" in host:
        headers["Host"] = _netloc(host.partition("%")[0], port)
    if parts.username is not None and not source.digest:
        headers["Authorization"] = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    replaced = {name.lower() for name in source.headers}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced} | dict(source.headers)
    path, query = _without_dots(_escaped(parts.path)) or "/", _escaped(parts.query)
    return HttpRequest(
        "GET" if source.body is None else "POST",
        urlunsplit((parts.scheme, _netloc(host, port), path, query, "")),
        {name: value.encode() for name, value in headers.items()},
        _proxy(parts.scheme, host, port, proxies),
        _trusted(source.ca_file) or environment_certificates(),
        Digest(user, password) if source.digest else None,
    )


def _trusted(path: str | None) -> str | None:
    """The path of trusted certificates; FailedError if it is a pipe or a device, which both clients would wait for."""
    if path and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        why = "the certificates in ca_file cannot be read: it is not a regular file"
        raise FailedError(Failure("tls", why))
    return path


def _host(host: str) -> str:
    """The host of a request, in ASCII; only a link-local IPv6 address keeps its zone, behind %.

    Raises:
        FailedError: the host cannot exist.
        ValueError: it is not valid.

    """
    if host.startswith(("*", ".")):
        raise ValueError(host)
    if not host.isascii():
        raise FailedError(Failure("dns", "the host's name cannot be resolved"))
    address, _, zone = host.replace("%25", "%", 1).partition("%")
    if not zone or not ip_address(address).is_link_local:
        return address
    if not zone.isdecimal() and zone not in {name for _, name in socket.if_nameindex()}:
        raise FailedError(Failure("network", f"this computer has no network interface {zone}"))
    return f"{address}%{zone}"


def _netloc(host: str, port: int | None) -> str:
    address = f"[{host.replace('%', '%25')}]" if ":" in host else host
    return address if port is None else f"{address}:{port}"


def _without_dots(path: str) -> str:
    """A path whose segments `.` and `..` are resolved."""
    segments = path.split("/")
    resolved: list[str] = []
    for segment in segments:
        if segment == "..":
            del resolved[max(1, len(resolved) - 1) :]
        elif segment != ".":
            resolved.append(segment)
    return "/".join(resolved) + ("/" if segments[-1] in (".", "..") else "")


def _escaped(text: str) -> str:
    """A path or query in its one ASCII form: UTF-8, only what needs it escaped, with capital hexadecimal digits."""

    def normal(match: re.Match[str]) -> str:
        character = unquote(match[0], "latin-1")
        return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else match[0].upper()

    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text)
    return quote(re.sub(r"%[0-9A-Fa-f]{2}", normal, text), safe=_SAFE)


# The environment


def environment_certificates() -> str | None:
    """The file or folder of trusted certificates that the environment names."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


def environment_proxies() -> dict[str, str]:
    """The proxies that the environment names, by scheme, `all` and `no`.

    `http_proxy` counts before `HTTP_PROXY`, an empty one switches it off. In a CGI program (REQUEST_METHOD is set)
    `HTTP_PROXY` does not count, because there a client sets it.
    """
    return getproxies_environment()


def _proxy(scheme: str, host: str, port: int | None, proxies: Mapping[str, str]) -> str:
    """The proxy for a URL; empty if it is polled directly.

    Raises:
        FailedError: it is not an HTTP proxy.

    """
    proxy = proxies.get(scheme) or proxies.get("all", "")
    if not proxy or _is_direct(host, port or _PORTS[scheme], proxies.get("no", "")):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _is_http_address(proxy):
        raise FailedError(Failure("proxy", "the proxy in the environment is not an http or https address"))
    return proxy


def _is_http_address(proxy: str) -> bool:
    """Whether the transports can read an address, each of which has its own failure for others."""
    try:
        parts = urlsplit(proxy)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in proxy
    except ValueError:
        return False


def _is_direct(host: str, port: int, no_proxy: str) -> bool:
    """Whether `no_proxy` names a host: itself, its domain, or its network; with a port only that one."""
    return any(_matches(entry, host, port) for entry in re.split(r"[\s,]+", no_proxy.lower()) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ("]" in name or ":" not in name):
        return int(number) == port and _matches(name, host, port)
    address = _network(host.partition("%")[0])
    network = _network(entry.strip("[]"))
    if address is None or network is None:
        name = entry.removeprefix("*").lstrip(".")
        return entry == "*" or (name != "" and address is None and f".{host}".endswith(f".{name}"))
    return address.version == network.version and address.network_address in network


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """The network, or the one address, that a text names; None for a name."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
