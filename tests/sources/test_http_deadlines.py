"""A poll ends at its deadline, whatever its machine does, and delays no other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.readings.records import Answer, Failure
from tests.support import servers
from tests.support.http_sources import (
    DEADLINE,
    FAULTS,
    HANGS,
    PATIENCE,
    TRANSPORTS,
    Inbox,
    machine,
    open_all,
    poll,
    poll_all,
    unused_port,
)
from tests.support.process import until
from tests.support.servers import READING, answer


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.__name__)
def hanging(request):
    """One poll of every machine that hangs, all at the same time."""
    with ExitStack() as stack:
        return poll_all(open_all(request.param, HANGS, stack, DEADLINE), HANGS)


@pytest.mark.parametrize("name", HANGS)
def test_a_machine_that_hangs(hanging, name):
    """A machine that hangs fails its poll at the deadline, not before."""
    if name == "never reads a large request" and hanging.of(name).failure.reason == "failed":
        pytest.skip("libcurl sends no request of this size at all")
    assert hanging.of(name).failure == Failure("timeout", f"no answer within {DEADLINE} s")
    assert hanging.took[name] >= DEADLINE


def test_a_machine_whose_queue_is_full(make):
    """A connection that is neither accepted nor refused fails at the deadline."""
    with servers.deaf() as port:
        inbox = poll_all(make(machine(f"http://127.0.0.1:{port}/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"


def test_the_deadline_counts_from_the_moment_a_poll_leaves(make, serve, one_place):
    """The time that a poll waits until another one ends is not taken from the time its own machine has."""
    release = threading.Event()

    def answers_late(connection):
        connection.request()
        release.wait(PATIENCE)
        connection.send(answer())

    late, silent, inbox = serve(answers_late), serve(servers.waits), Inbox()
    transport = make(machine(late.url, "late"), machine(silent.url, "silent", timeout=1.0))
    transport.start(["late", "silent"], inbox)
    until(lambda: late.requests)
    released = time.monotonic()
    release.set()
    inbox.wait(["late", "silent"])
    assert inbox.of("silent").failure == Failure("timeout", "no answer within 1 s")
    assert time.monotonic() - released >= 1.0


def test_a_poll_that_finds_no_place_is_busy(make, serve, one_place):
    """A poll that cannot leave within its timeout fails as busy: nothing says that its machine hangs."""
    hanging, good, inbox = serve(servers.waits), serve(servers.good), Inbox()
    transport = make(machine(hanging.url, "hanging"), machine(good.url, "good", timeout=DEADLINE))
    transport.start(["hanging", "good"], inbox)
    inbox.wait(["good"])
    assert inbox.of("good").failure.reason == "busy"
    assert not good.requests


@pytest.mark.parametrize("addresses", [0, 1, 5])
def test_the_deadline_holds_over_names_and_addresses(make_requests, resolving, addresses):
    """A resolver that hangs, or several addresses that all hang, end at one deadline."""
    with servers.deaf() as port:
        resolving(*[port] * addresses)
        inbox = poll_all(make_requests(machine("http://machine.example/data", timeout=DEADLINE)), ["machine"])
    assert inbox.of("machine").failure.reason == "timeout"


def test_an_address_that_hangs_does_not_hide_the_next(make_requests, resolving, serve):
    """A machine with one working address among several is read."""
    server = serve(servers.good)
    with servers.deaf() as port:
        resolving(port, unused_port(), server.port)
        assert poll(make_requests(machine("http://machine.example/data", timeout=1.0))).answers == (Answer(READING),)


@pytest.mark.parametrize(
    ("count", "bad"),
    [(200, "never accepts"), (200, "never finishes the TLS handshake"),
     *((20, bad) for bad in ("never answers", "never finishes the TLS handshake", "resets", "502", "a gzip bomb"))],
)  # fmt: skip
def test_bad_machines_delay_no_other(make, serve, count, bad):
    """Twenty good machines behind many bad ones are read while those that hang still hang."""
    fault = FAULTS.get(bad) or HANGS[bad]
    server = serve(fault.talk if count == 20 else None, scheme=fault.scheme)
    good = serve(servers.good)
    bad_names, good_names = [f"bad-{n}" for n in range(count)], [f"good-{n}" for n in range(20)]
    sources = [machine(server.url, name) for name in bad_names] + [machine(good.url, name) for name in good_names]
    inbox, transport = Inbox(), make(*sources)
    transport.start(bad_names + good_names, inbox)
    inbox.wait(good_names)
    assert all(inbox.of(name).answers for name in good_names)
    if bad in HANGS:
        assert len(inbox.polls) == len(good_names)


@pytest.mark.parametrize("name", ["never answers", "never finishes the TLS handshake", "drips its body"])
def test_a_connection_is_given_up_at_the_deadline(make, serve, name):
    """The machine sees its connection closed when the poll failed, while the transport stays open."""
    server = serve(HANGS[name].talk, scheme=HANGS[name].scheme)
    poll(make(machine(server.url, timeout=DEADLINE)))
    server.wait_until_idle()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(started=st.lists(st.sampled_from([*HANGS, *FAULTS]), min_size=1, max_size=40))
def test_each_source_is_delivered_once(everything, started):
    """Whatever machines do, each poll that was started is delivered exactly once."""
    transport, inbox = everything, Inbox()
    for name in started:
        transport.start([name], inbox)
    deadline = time.monotonic() + PATIENCE
    while len(inbox.polls) < len(started) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert Counter(delivered.source for delivered in inbox.polls) == Counter(started)
    assert all(delivered.failure for delivered in inbox.polls)


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
def everything(request, nothing_left):
    """A transport over every machine that hangs or sends garbage."""
    with ExitStack() as stack:
        yield open_all(request.param, HANGS | FAULTS, stack, DEADLINE)


def test_closing_cuts_off_what_is_in_flight(make, serve):
    """Polls in flight when a transport is closed are delivered as closed, before their deadline."""
    names = list(HANGS)
    urls = {name: serve(HANGS[name].talk, scheme=HANGS[name].scheme).url for name in names}
    transport = make(*(machine(url, name, timeout=30) for name, url in urls.items()))
    inbox = Inbox()
    transport.start(names, inbox)
    time.sleep(0.1)  # until each is where it hangs
    transport.close()
    inbox.wait(names)
    assert {delivered.failure.reason for delivered in inbox.polls} == {"closed"}


def test_nothing_is_polled_once_closed(make, serve):
    """A poll that is started after closing is delivered as closed, without a request."""
    server = serve(servers.good)
    transport = make(machine(server.url))
    transport.close()
    assert poll(transport).failure.reason == "closed"
    assert not server.connections


def test_closing_twice(make, serve):
    """A second close has no effect."""
    transport = make(machine(serve(servers.good).url))
    poll(transport)
    transport.close()
    transport.close()
