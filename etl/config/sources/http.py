"""`url`: a machine that is polled over HTTP."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from etl.config.addresses import URL_HINT, is_url, url_problem
from etl.config.sources.base import JsonSource, Mistake

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOGIN = "write it into url, http://user:password@host/, or into a header, headers: {Authorization: Bearer ...}"

_MISSING_LOGIN = (
    "write the login into url, http://user:password@host/, with auth: digest if the machine asks for digest; "
    "or set headers: {Authorization: ...}"
)
_REFUSED_LOGIN = "the machine refuses this login: compare user and password; if it asks for digest, set auth: digest"
_NO_PROXY = "unset http_proxy and https_proxy, or name this host in no_proxy"
_HOST = "write the host's name as the certificate has it into url"
_ADVICE = {
    "HTTP 401": _MISSING_LOGIN,
    "HTTP 407": _NO_PROXY,
    "HTTP 403": "the machine refuses this client: does it ask for a login, or for a header?",
    "HTTP 404": "nothing is at this path: compare url with the machine's manual",
    "HTTP 405": "this path takes no GET requests: compare url with the machine's manual",
    "HTTP 429": "the machine asks for fewer requests: set a longer interval",
    "redirect": "write the address that the machine redirects to into url",
    "mismatch": _HOST,
    "does not match": _HOST,
    "tls": "does the machine speak http:// on this port? Else see which certificate it shows",
    "protocol": "does the machine speak https:// on this port, or another protocol?",
    "dns": "check the host's name in url, or write its IP address",
    "reset": "the machine closed the connection: does it serve HTTP on this port, and another client now?",
    "proxy": _NO_PROXY,
}


class HttpSource(JsonSource, frozen=True, kw_only=True):
    """A machine, or a gateway to several, that answers GET requests."""

    key = "url"
    label = "an http:// address"
    hints = JsonSource.hints | {
        "url": URL_HINT,
        "headers": "write Name: value in plain ASCII, numbers in quotes, no space at the ends",
        "auth": "write basic or digest, and the login in the url: http://user:password@machine/data",
        "ca_file": "write the path of a PEM file, absolute or from the config's folder",
    }
    unknown_key_hints: ClassVar[dict[str, str]] = {
        "user(_?name)?|pass(word|wd)?|login|auth(orization|entication)?|basic_?auth|bearer|credentials": _LOGIN,
        "(bearer_|api_|access_)?token|api_?key": _LOGIN,
        "header|http_headers": "did you mean headers?",
        "host(name)?|port|ip|query|params|scheme": "write it into url:, such as http://10.0.0.7:8080/data",
        "address|endpoint|link": "did you mean url?",
        "verify(_ssl|_tls)?|insecure(_skip_verify)?|ssl|tls|ca(cert|_cert|_bundle)?|cert(ificate)?": (
            "certificates are always verified: set ca_file to a PEM file with the one to trust"
        ),
        "method|body|data|payload": "every poll is a GET request without a body",
        "proxy|proxies": "proxies come from the environment: http_proxy, https_proxy, no_proxy",
    }
    secrets = ("headers",)
    templates = ("url",)
    paths = ("ca_file",)

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    auth: Literal["basic", "digest"] | None = None
    ca_file: Annotated[str, Meta(min_length=1)] | None = None

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll."""
        has_login = "@" in urlsplit(self.url).netloc or "authorization" in map(str.lower, self.headers)
        return _ADVICE | {"HTTP 401": _REFUSED_LOGIN if has_login else _MISSING_LOGIN}

    def mistakes(self) -> Iterator[Mistake]:
        """Why the source cannot be polled: its address, its headers, its login."""
        yield from self.address_mistakes(url_problem)
        yield from self._header_mistakes()
        yield from self._auth_mistakes()

    def _header_mistakes(self) -> Iterator[Mistake]:
        names = [name.lower() for name in self.headers]
        for i, (name, value) in enumerate(self.headers.items()):
            path = ("headers", name)
            if (
                not _HEADER_NAME.fullmatch(name)
                or not value.isascii()
                or not value.isprintable()
                or value != value.strip()
            ):
                yield Mistake(path, f"{name} in headers cannot be sent")
            if name.lower() == "transfer-encoding" or (name.lower() == "content-length" and value != "0"):
                hint = "leave it out: every poll is a GET request without a body"
                yield Mistake(path, f"{name} in headers announces a body", hint)
            if names[i] in names[:i]:
                yield Mistake(path, f"the header {name} occurs twice", "remove one of them")

    def _auth_mistakes(self) -> Iterator[Mistake]:
        if self.auth is None:
            return
        if is_url(self.url) and not urlsplit(self.url).username:
            hint = "write http://user:password@machine/data, and %40 for an @ in them"
            yield Mistake(("auth",), f"source {self.name} has auth, but no login in its url", hint)
        if "authorization" in map(str.lower, self.headers):
            message = f"source {self.name} has both auth and the header Authorization"
            yield Mistake(("auth",), message, "remove one of them")

    def warnings(self, folder: Path, output: Path) -> Iterator[Mistake]:
        """What `etl check` warns of: certificates that are not used."""
        del folder, output
        if self.ca_file and self.url.lower().startswith("http:"):
            yield Mistake(("ca_file",), "ca_file has no effect on an http:// address", "leave it out")
