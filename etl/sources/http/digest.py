"""Digest authentication (RFC 7616): the login of one source, sent in a form that does not reveal the password."""

import hashlib
import os
import re
from typing import NamedTuple

MAX_CHALLENGE_CHARS = 2048
"""Characters of a WWW-Authenticate header that are read; a challenge has some hundred."""
_HASHES = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""The algorithms of hashlib, the best first."""
_PARAMETER = re.compile(
    r"(?:(?P<scheme>[A-Za-z]+)[ \t]+)?(?P<name>[\w-]+)[ \t]*=[ \t]*"
    r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s,"]+))'
)
_QUOTE, _ESCAPED = re.compile(r'(["\\])'), r"\\\1"


class _Challenge(NamedTuple):
    algorithm: str
    realm: str
    nonce: str
    opaque: str | None
    has_qop: bool


class Digest:
    """A user and password, and the latest challenge of the machine: most polls are answered at the first request."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user
        self._password = password
        self._challenge: _Challenge | None = None
        self._count = 0

    def accept(self, www_authenticate: str) -> bool:
        """Take the best challenge of a 401; False if there is none that can be answered. Basic is never answered."""
        text = www_authenticate[:MAX_CHALLENGE_CHARS].encode("latin-1", "replace").decode(errors="surrogateescape")
        challenges = [challenge for parameters in _challenges(text) if (challenge := _challenge(parameters))]
        names = list(_HASHES)
        challenges.sort(key=lambda challenge: names.index(challenge.algorithm.upper().removesuffix("-SESS")))
        self._challenge = challenges[0] if challenges else None
        self._count = 0
        return bool(challenges)

    def authorization(self, method: str, target: str, client_nonce: str = "") -> bytes | None:
        """The Authorization header for a request; None before the first challenge."""
        challenge = self._challenge
        if challenge is None:
            return None
        self._count += 1
        client_nonce = client_nonce or os.urandom(12).hex()
        user, realm, nonce = self._user, challenge.realm, challenge.nonce
        algorithm = challenge.algorithm.upper()
        digest = _HASHES[algorithm.removesuffix("-SESS")]
        secret = _hash(digest, user, realm, self._password)
        if algorithm.endswith("-SESS"):
            secret = _hash(digest, secret, nonce, client_nonce)
        request = _hash(digest, method, target)
        count = f"{self._count:08x}"
        quality = (count, client_nonce, "auth") if challenge.has_qop else ()
        fields = {"username": user, "realm": realm, "nonce": nonce, "uri": target}
        fields["response"] = _hash(digest, secret, nonce, *quality, request)
        if challenge.opaque is not None:
            fields["opaque"] = challenge.opaque
        if challenge.has_qop or algorithm.endswith("-SESS"):
            fields["cnonce"] = client_nonce
        quoted = ", ".join(f'{name}="{_QUOTE.sub(_ESCAPED, value)}"' for name, value in fields.items())
        plain = f", algorithm={challenge.algorithm}" + (f", qop=auth, nc={count}" if challenge.has_qop else "")
        return f"Digest {quoted}{plain}".encode(errors="surrogateescape")


def _hash(algorithm: str, *parts: str) -> str:
    text = ":".join(parts).encode(errors="surrogateescape")
    return hashlib.new(algorithm, text, usedforsecurity=False).hexdigest()


def _challenges(text: str) -> list[dict[str, str]]:
    """The parameters of each Digest challenge of a header, which may hold challenges of several schemes."""
    challenges: list[dict[str, str]] = []
    scheme = ""
    for match in _PARAMETER.finditer(text):
        if match["scheme"]:
            scheme = match["scheme"].lower()
            challenges += [{}] if scheme == "digest" else []
        if scheme == "digest":
            value = match["token"] if match["quoted"] is None else re.sub(r"\\(.)", r"\1", match["quoted"])
            challenges[-1].setdefault(match["name"].lower(), value)
    return challenges


def _challenge(parameters: dict[str, str]) -> _Challenge | None:
    """A challenge that can be answered, else None."""
    algorithm = parameters.get("algorithm", "MD5")
    supported = algorithm.upper().removesuffix("-SESS") in _HASHES
    qualities = [quality.strip().lower() for quality in parameters.get("qop", "auth").split(",")]
    if not supported or "auth" not in qualities or "nonce" not in parameters:
        return None
    realm, nonce, opaque = parameters.get("realm", ""), parameters["nonce"], parameters.get("opaque")
    return _Challenge(algorithm, realm, nonce, opaque, "qop" in parameters)
