"""Addresses and paths that cannot be used, and what to write instead."""

import difflib
import re
from collections.abc import Iterator
from ipaddress import ip_network
from urllib.parse import urlsplit

URL_HINT = "write an http:// or https:// address"
PROXY_HINT = "write the address or network of the reverse proxy, such as 127.0.0.1 or 10.42.0.0/16"
_ADDRESS = re.compile(
    r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]+(%[0-9A-Za-z._~-]+)?\])(:[0-9]+)?"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NOT_A_HOST = re.compile(r"[/*\s\[\]]|^[^:]*:[0-9]+$")
"""What cannot be part of an address to listen on: a scheme, brackets, a wildcard, a port."""


def url_problem(url: str) -> tuple[str, str] | None:
    """Why an address cannot be polled, and what to write instead; None if it can.

    `{value}` in the hint stands for the address as it is written: its variables may hold secrets.
    """
    return None if is_url(url) else next(_faults(url))


def _faults(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with an address, the most telling first."""
    scheme = _SCHEME.match(url)
    protocol = scheme[1].lower() if scheme else ""
    if re.search(r"[\s\\]", url) or not url.isprintable():
        yield "it has a space, a backslash or a control character", "write an http:// or https:// address without it"
    if protocol == "file":
        yield "it is a file", "write file: and the path instead of url:"
    if protocol in ("http", "https"):
        yield from _http_faults(url)
    if begin := _meant_scheme(url):
        yield "it has no http:// or https://", f"did you mean {begin}:// and the host?"
    if protocol:
        hint = "poll a gateway that speaks HTTP, or a .jsonl file that another program appends to"
        yield f"this program does not speak {protocol}", hint
    if url.startswith("//"):
        yield "it has no http:// or https://", "write http:{value}, or https:{value}"
    if url.startswith(("/", ".", "~")):
        yield "it is a path", "write file: instead of url:, or an http:// address"
    if not url:
        yield "it is empty", URL_HINT
    yield "it has no http:// or https://", "write http://{value}, or https://"


def _http_faults(url: str) -> Iterator[tuple[str, str]]:
    """What is wrong with an address that begins as it should."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        login, at, _ = url.partition("://")[2].split("/")[0].rpartition("@")
        if "@" in url and (not at or re.search(r"[\[\]?#]", login)):
            yield (
                "its login cannot be read",
                "in a user or password write %2F for /, %3A for :, %40 for @, %3F for ?",
            )
        yield "its host or port cannot be read", "write a port from 1 to 65535 after the host"
        return
    if port == 0:
        yield "its port is 0", "write a port from 1 to 65535 after the host"
    if not host:
        yield "it has no host", "write a name or an IP address after http://"
    if not host.isascii():
        yield "its host is not ASCII", "write the name as DNS has it, such as xn--mller-kva.example"
    yield "its host is not a name or an IP address", "write a host such as press-7.plant, 10.0.0.7 or [fe80::1]"


def _meant_scheme(url: str) -> str | None:
    """The scheme that an address seems to begin with: http for "http:/host", https for "htps://host"."""
    word = re.match(r"([A-Za-z]+)[:;]?/|(https?)[:;](?![0-9])", url, re.IGNORECASE)
    near = word and difflib.get_close_matches((word[1] or word[2]).lower(), ["https", "http"], 1, 0.75)
    return near[0] if near else None


def is_url(url: str) -> bool:
    """Whether an address can be polled."""
    try:
        parts = urlsplit(url)
        address = parts.netloc.rpartition("@")[2]
        valid = parts.scheme in ("http", "https") and _ADDRESS.fullmatch(address) and parts.port != 0
    except ValueError:
        return False
    return bool(valid) and url.isprintable() and not re.search(r"[\s\\]", url)


def path_problem(key: str, path: str) -> tuple[str, str] | None:
    """Why the value of a key is no path, and what to write instead; None if it can be one."""
    scheme = _SCHEME.match(path)
    if not scheme:
        return None
    hint = "write the path of a file or folder on this machine"
    if scheme[1].lower() == "file":
        hint = "write the path without file://"
    elif key == "file":
        problem = url_problem(path)
        hint = problem[1] if problem else "write url: instead of file:"
    elif key == "sources":
        hint = "write a list, with - name: machine-1 and url: below it"
    return "it is an address, not a path", hint


def host_problem(host: str) -> tuple[str, str] | None:
    """Why nobody can listen on an address, and what to write instead; None if somebody may."""
    if not _NOT_A_HOST.search(host):
        return None
    return "it is not a name or an IP address alone", "write 127.0.0.1, ::1 or the like; the port goes to port:"


def network_mistake(text: str) -> str:
    """What to write instead of a text that is not the network of a proxy; empty if it is."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return PROXY_HINT
    if network.prefixlen == 0:
        return "that is every address; write only that of the reverse proxy"
    return "" if text in (str(network), str(network.network_address)) else f"did you mean {network}?"
