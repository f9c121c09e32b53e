"""What is not a proper answer is a failure with a code and a sentence, at bounded cost."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from etl.readings.records import Failure
from tests.support import servers
from tests.support.http_sources import (
    DEADLINE,
    FAULTS,
    PATIENCE,
    SECRET,
    TRANSPORTS,
    machine,
    open_all,
    poll,
    poll_all,
    unused_port,
)
from tests.support.servers import answer, says


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.__name__)
def garbage(request):
    """One poll of every machine that sends garbage, all at the same time."""
    with ExitStack() as stack:
        return poll_all(open_all(request.param, FAULTS, stack, PATIENCE), FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_machine_that_sends_garbage(garbage, name):
    """A malformed, oversized or refused answer is a failure with a code, not a timeout."""
    assert garbage.of(name).failure.reason == FAULTS[name].reason


@pytest.mark.parametrize("name", FAULTS)
def test_a_failure_is_put_in_a_short_plain_sentence(garbage, name):
    """The sentence of a failure contains neither the URL nor the secrets in it."""
    why = garbage.of(name).failure.why
    assert 5 < len(why) < 100
    assert why.isprintable()
    for inside in (SECRET, "://", "127.0.0.1", "None", "(", "urllib3"):
        assert inside not in why


def test_what_failures_say(garbage):
    """The sentences name the status, the limit or the event."""
    assert garbage.of("502").failure.why == "HTTP 502 Bad Gateway"
    assert garbage.of("an unknown status").failure.why == "HTTP 599"
    assert garbage.of("a redirect without a target").failure.why == "HTTP 302: redirects are not followed"
    assert garbage.of("a large body").failure.why == "the answer is larger than 5 MiB"
    assert garbage.of("resets").failure.why == "the connection broke off"


def test_refused(make):
    """A closed port is reported as refused."""
    failure = poll(make(machine(f"http://127.0.0.1:{unused_port()}/data"))).failure
    assert failure == Failure("refused", "connection refused")


def test_a_name_that_cannot_be_resolved(make):
    """A name that cannot exist is a DNS failure."""
    failure = poll(make(machine(f"http://{'a' * 64}.example/data"))).failure
    assert failure == Failure("dns", "the host's name cannot be resolved")


def test_a_name_that_does_not_exist(make):
    """A name that does not exist is a DNS failure, or a timeout if the resolver is slow."""
    failure = poll(make(machine("http://machine.invalid/data", timeout=DEADLINE))).failure
    assert failure.reason in ("dns", "timeout")


@pytest.mark.parametrize(
    "target", ["itself", "another", "file:///etc/hostname", "http://169.254.169.254/", "//[", "\xff"]
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_redirects_are_not_followed(make, serve, status, target):
    """A redirect is a failure and is not followed, so no other host receives the login."""
    another = serve(servers.good)
    location = {"another": another.url, "itself": "/data"}.get(target, target)
    server = serve(says(answer(status=status, headers=f"Location: {location}\r\n")))
    transport = make(machine(server.url.replace("://", f"://user:{SECRET}@")))
    assert poll(transport).failure.reason == "redirect"
    assert len(server.requests) == 1
    assert not another.connections


@pytest.mark.parametrize("name", ["a large body", "endless chunks", "a gzip bomb", "a chunk of negative size",
                                  "an endless error", "an endless redirect", "an endless header"])  # fmt: skip
def test_memory_stays_small(make, serve, name):
    """An endless answer takes memory for a few times the size limit at most."""
    source = machine(serve(FAULTS[name].talk).url)
    poll(make(source))
    transport = make(source)
    before, peak = reset_peak(), poll(transport) and peak_memory()
    assert peak - before < 20 << 20


def reset_peak() -> int:
    """Reset the peak; returns the bytes in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not measure peaks of memory")
    return memory("VmRSS")


def peak_memory() -> int:
    return memory("VmHWM")


def memory(kind: str) -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) << 10
