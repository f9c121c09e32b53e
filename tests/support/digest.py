"""A machine that asks for a login by digest, and checks it with the formulas of RFC 7616."""

from __future__ import annotations

import hashlib
import itertools
import re

from tests.support.http_sources import headers_of
from tests.support.servers import Connection, answer

REALM = "plant"


class DigestMachine:
    """Answers who knows the password; each nonce is good for `uses` requests."""

    def __init__(
        self, passwords: dict[str, str], algorithm: str = "MD5", uses: int = 1000, closes: bool = False
    ) -> None:
        self._passwords = passwords
        self._algorithm = algorithm
        self._uses = uses
        self._closes = closes
        self._nonces = itertools.count()
        self._counts: dict[str, int] = {}

    def __call__(self, connection: Connection) -> None:
        for request in connection.requests():
            method, target, _ = request.decode().split("\r\n")[0].split(" ")
            login = headers_of(request).get("authorization", "")
            connection.send(answer() if self._is_right(method, target, login) else self._refusal())
            if self._closes:
                return

    def _refusal(self) -> bytes:
        nonce = f"nonce {next(self._nonces)}"
        self._counts[nonce] = 0
        challenge = (
            f'Digest realm="{REALM}", qop="auth, auth-int", nonce="{nonce}", opaque="\\"", algorithm={self._algorithm}'
        )
        return answer(
            b"no", "401 Unauthorized", f'WWW-Authenticate: Basic realm="x"\r\nWWW-Authenticate: {challenge}\r\n'
        )

    def _is_right(self, method: str, target: str, login: str) -> bool:
        fields = {name: quoted or token for name, quoted, token in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', login)}
        nonce = fields.get("nonce", "")
        if not login.startswith("Digest ") or self._counts.get(nonce, self._uses) >= self._uses:
            return False
        self._counts[nonce] += 1
        digest = hashlib.new(self._algorithm.replace("-", ""))

        def hashed(*parts: str) -> str:
            again = digest.copy()
            again.update(":".join(parts).encode())
            return again.hexdigest()

        secret = hashed(fields["username"], REALM, self._passwords[fields["username"]])
        parts = nonce, f"{self._counts[nonce]:08x}", fields["cnonce"], "auth", hashed(method, target)
        return fields["response"] == hashed(secret, *parts) and fields["uri"] == target
