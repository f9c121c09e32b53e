"""TLS is verified against the certificates of the source, and never weakened."""

from __future__ import annotations

import os
import shutil
import ssl
import warnings

import pytest

from etl.readings.records import Answer
from tests.support import servers
from tests.support.http_sources import (
    machine,
    poll,
)
from tests.support.servers import READING, answer, says_and_closes


@pytest.mark.parametrize("name", ["ca.crt", "größe ß.crt"])
def test_ca_file(make, serve, certificates, tmp_path, name):
    """A certificate signed by the authority in `ca_file` is trusted, and its connection is used again."""
    shutil.copy(certificates.ca, tmp_path / name)
    server = serve(servers.good, tls=servers.tls(certificates.good))
    transport = make(machine(server.url, ca_file=str(tmp_path / name)))
    assert [poll(transport).answers for _ in range(3)] == [(Answer(READING),)] * 3
    assert server.connections == 1


@pytest.mark.parametrize(
    ("certificate", "word"), [("self_signed", "self"), ("wrong_host", "match"), ("expired", "expired")]
)
def test_a_bad_certificate(make, serve, certificates, certificate, word):
    """An invalid certificate fails the poll before anything is sent, and the failure names the reason."""
    server = serve(servers.good, tls=servers.tls(getattr(certificates, certificate)))
    failure = poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure
    assert failure.reason == "tls"
    assert word in failure.why
    assert not server.requests


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_named(make, serve, certificates, tmp_path, content):
    """The failure has the path of the missing or empty `ca_file`."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    path = tmp_path / "own.pem"
    if content:
        path.write_text(content)
    failure = poll(make(machine(server.url, ca_file=str(path)))).failure
    assert (failure.reason, failure.why) == ("tls", f"the certificates in ca_file cannot be read: {path}")


def test_an_unknown_authority(make, serve, certificates):
    """Without `ca_file`, a certificate of a private authority is not trusted."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    assert poll(make(machine(server.url))).failure.reason == "tls"
    assert not server.requests


def test_authorities_of_one_source_hold_for_it_alone(make, serve, certificates):
    """A `ca_file` counts for its source only, also on a shared address."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    trusting = machine(server.url, "trusting", ca_file=str(certificates.ca))
    transport = make(trusting, machine(server.url, "strange"))
    assert poll(transport, "trusting").answers
    assert poll(transport, "strange").failure.reason == "tls"


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_of_the_environment(make, serve, certificates, monkeypatch, variable):
    """The environment can name the certificates of all sources; `ca_file` counts before it, for its source alone."""
    monkeypatch.setenv(variable, str(certificates.ca))
    server = serve(servers.good, tls=servers.tls(certificates.good))
    other = machine(server.url, "other", ca_file=str(certificates.self_signed))
    transport = make(machine(server.url, "plain"), other)
    assert poll(transport, "other").failure.reason == "tls"
    assert poll(transport, "plain").answers == (Answer(READING),)
    assert poll(transport, "other").failure.reason == "tls"


@pytest.mark.parametrize("content", [None, "no certificate\n"], ids=["missing", "garbage"])
def test_a_bad_ca_file(make, serve, certificates, tmp_path, content):
    """An unreadable `ca_file` fails the poll; no other certificates are used instead."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    if content:
        (tmp_path / "ca.crt").write_text(content)
    failure = poll(make(machine(server.url, ca_file=str(tmp_path / "ca.crt")))).failure
    assert failure.reason == "tls"
    assert "ca_file" in failure.why
    assert not server.requests


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_a_ca_file_that_is_no_file(make, serve, certificates, tmp_path, kind):
    """A pipe or a device fails the poll: reading it would hold the thread that polls."""
    server = serve(servers.good, tls=servers.tls(certificates.good))
    path = tmp_path / "ca.crt" if kind == "FIFO" else "/dev/zero"
    if kind == "FIFO":
        os.mkfifo(path)
    failure = poll(make(machine(server.url, ca_file=str(path)))).failure
    assert (failure.reason, "not a regular file" in failure.why) == ("tls", True)


def test_old_tls(make, serve, certificates):
    """A machine that speaks TLS 1.0 only is refused."""
    context = servers.tls(certificates.good)
    try:
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers("ALL:@SECLEVEL=0")
    except (ValueError, ssl.SSLError):
        pytest.skip("this OpenSSL speaks no TLS 1.0")
    server = serve(servers.good, tls=context)
    assert poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure.reason in ("tls", "reset")
    assert not server.requests


def test_plain_http_where_tls_is_expected(make, serve):
    """A machine that answers without TLS where TLS is configured is refused."""
    server = serve(servers.blurts(answer()), scheme="https")
    assert poll(make(machine(server.url))).failure.reason == "tls"


def test_tls_closed_without_a_notice(make, serve, certificates):
    """A machine that closes its TLS connections without a notice, as many do, is read also without a length."""

    def talk(connection):
        if connection.request() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + READING)

    server = serve(talk, tls=servers.tls(certificates.good))
    transport = make(machine(server.url, ca_file=str(certificates.ca)))
    assert [poll(transport).answers for _ in range(2)] == [(Answer(READING),)] * 2


def test_tls_cut_in_the_middle(make, serve, certificates):
    """An answer that ends early inside TLS is a failure."""
    server = serve(says_and_closes(answer(length=1000)), tls=servers.tls(certificates.good))
    assert poll(make(machine(server.url, ca_file=str(certificates.ca)))).failure.reason == "reset"
