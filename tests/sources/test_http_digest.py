"""Login by digest, over every HTTP transport."""

from __future__ import annotations

import pytest

from etl.readings.records import Answer, Failure
from etl.sources.http.digest import Digest
from tests.support.digest import DigestMachine
from tests.support.http_sources import SECRET, headers_of, machine, poll
from tests.support.servers import READING, Server, answer, says

REFUSED = Failure("http_status", "HTTP 401 Unauthorized")


def digest_source(server: Server, login: str = f"user:{SECRET}", **options):
    return machine(f"{server.url.replace('://', f'://{login}@')}?a=b", digest=True, **options)


def logins(server: Server) -> list[str]:
    """The scheme of the login of each request; empty without one."""
    return [headers_of(request).get("authorization", "").partition(" ")[0] for request in server.requests]


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
def test_one_challenge_serves_many_polls(make, serve, algorithm):
    """The first poll is challenged and answered, and the next polls need one request each."""
    server = serve(DigestMachine({"user": SECRET}, algorithm))
    transport = make(digest_source(server))
    assert [poll(transport).answers for _ in range(4)] == [(Answer(READING),)] * 4
    assert logins(server) == ["", *["Digest"] * 4]


@pytest.mark.parametrize("closes", [False, True], ids=["keeps", "closes"])
def test_a_nonce_that_has_expired(make, serve, closes):
    """A poll whose challenge is no longer valid is challenged again and answered."""
    server = serve(DigestMachine({"user": SECRET}, uses=1, closes=closes))
    transport = make(digest_source(server))
    assert [poll(transport).answers for _ in range(3)] == [(Answer(READING),)] * 3
    assert len(server.requests) == 6


def test_each_source_has_its_own_login(make, serve):
    """Two users on one machine do not disturb each other."""
    server = serve(DigestMachine({"ann": "pass", "bob": "ł:ß@"}))
    transport = make(
        digest_source(server, "ann:pass", name="ann"), digest_source(server, "bob:%C5%82:ß%40", name="bob")
    )
    for name in ("ann", "bob", "ann", "bob"):
        assert poll(transport, name).answers == (Answer(READING),)
    assert logins(server) == ["", "Digest", "", "Digest", "Digest", "Digest"]


def test_a_wrong_password(make, serve):
    """A wrong password is a failure after two requests, in every poll."""
    server = serve(DigestMachine({"user": "another"}))
    transport = make(digest_source(server))
    assert [poll(transport).failure for _ in range(2)] == [REFUSED] * 2
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "challenge",
    [
        'Basic realm="x"',
        'Digest realm="x", qop="auth-int", nonce="y"',
        'Digest realm="x", nonce="y", algorithm=MD4',
        'Digest realm="x"',
        "Digest",
        "Negotiate",
        "",
    ],
)
def test_only_a_digest_challenge_is_answered(make, serve, challenge):
    """The password is sent to no machine in another form, and no request is repeated for nothing."""
    server = serve(says(answer(status="401 Unauthorized", headers=f"WWW-Authenticate: {challenge}\r\n")))
    assert poll(make(digest_source(server))).failure == REFUSED
    assert logins(server) == [""]


def test_a_machine_that_asks_for_no_login(make, serve):
    """A login by digest is not sent where nobody asks for it."""
    server = serve(says(answer()))
    assert poll(make(digest_source(server))).answers == (Answer(READING),)
    assert logins(server) == [""]


EXAMPLES = {
    "RFC 7616, MD5": (
        "Circle of Life",
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=MD5, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
        "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "8ca523f5e9506fed4657c9700eebdbec",
    ),
    "RFC 7616, the better of two": (
        "Circle of Life",
        'Digest realm="http-auth@example.org", qop="auth", algorithm=MD5, nonce="7ypf", '
        'Digest realm="http-auth@example.org", qop="auth", algorithm=SHA-256, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", Basic realm="x"',
        "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    ),
    "RFC 2617": (
        "Circle Of Life",
        'digest realm="testrealm@host.com", qop=auth, nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
        "0a4f113b",
        "6629fae49393a05397450978507c4ef1",
    ),
    "RFC 2069": (
        "CircleOfLife",
        'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"',
        "",
        "1949323746fe6a43ef61f9606e7febea",
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_standards(name):
    """The answers to the challenges in the standards are those of the standards."""
    password, challenge, client_nonce, response = EXAMPLES[name]
    digest = Digest("Mufasa", password)
    assert digest.authorization("GET", "/dir/index.html") is None
    assert digest.accept(challenge)
    assert f'response="{response}"'.encode() in digest.authorization("GET", "/dir/index.html", client_nonce)


def test_a_long_challenge():
    """A hostile challenge costs little, and what it says is quoted."""
    digest = Digest("user", SECRET)
    assert not digest.accept("a" * 300_000)
    assert digest.accept('Digest nonce="a\\"b", realm="\\\\", x=' + '"' * 300_000)
    assert b'realm="\\\\", nonce="a\\"b"' in digest.authorization("GET", "/")
