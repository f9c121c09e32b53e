"""One table of what is an answer, over every HTTP transport."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from etl.readings.records import Poll
from tests.support.http_answers import CASES, Case
from tests.support.http_sources import PATIENCE, TRANSPORTS, machine, poll_all
from tests.support.servers import Connection, Server, Talk, says, says_and_closes

MAX_BYTES_IN_PIECES = 2000
"""Size of a response that is also sent byte by byte."""


def in_pieces(case: Case) -> Talk:
    def talk(connection: Connection) -> None:
        for _ in connection.requests():
            for byte in case.sent:
                connection.send(bytes([byte]))
            if case.closes:
                return

    return talk


def at_once(case: Case) -> Talk:
    return says_and_closes(case.sent) if case.closes else says(case.sent)


def polled(kind, cases: dict[str, Case], talk) -> list[dict[str, Poll]]:
    """Two polls of each case over one transport."""
    with ExitStack() as stack:
        sources = []
        for name, case in cases.items():
            server = Server(talk(case))
            stack.callback(server.close)
            sources.append(machine(server.url, name, PATIENCE))
        transport = kind(sources, time.time)
        stack.callback(transport.close)
        rounds = [poll_all(transport, cases) for _ in range(2)]
        return [{name: inbox.of(name) for name in cases} for inbox in rounds]


def outcome(poll: Poll) -> bytes | str:
    """The body, or the code of the failure."""
    return poll.failure.reason if poll.failure else poll.answers[0].body


@pytest.fixture(scope="module", params=TRANSPORTS, ids=lambda kind: kind.__name__)
def rounds(request):
    """Two polls of every case, all at the same time."""
    return polled(request.param, CASES, at_once)


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_what_is_an_answer(rounds, name):
    """A response is the same answer, or a failure with the same code, over every transport and connection."""
    assert [outcome(polls[name]) for polls in rounds] == [CASES[name].outcome] * 2


def test_all_transports_say_the_same():
    """The sentence of a failure does not depend on the transport."""
    refused = {name: case for name, case in CASES.items() if isinstance(case.outcome, str)}
    first, *others = (polled(kind, refused, at_once)[0] for kind in TRANSPORTS)
    for name in refused:
        assert all(other[name].failure == first[name].failure for other in others), name


@pytest.mark.parametrize("kind", TRANSPORTS, ids=lambda kind: kind.__name__)
def test_an_answer_in_pieces(kind):
    """The outcome does not depend on how the bytes arrive."""
    small = {name: case for name, case in CASES.items() if len(case.sent) < MAX_BYTES_IN_PIECES}
    for polls in polled(kind, small, in_pieces):
        assert {name: outcome(polls[name]) for name in small} == {name: case.outcome for name, case in small.items()}
