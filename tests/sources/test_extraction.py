"""`records`: answers are split into records beside the transport, within bounds."""

from __future__ import annotations

import threading

import jmespath
import orjson
import pytest

from etl.readings.answers import MAX_RECORDS, MAX_STRUCTURE, extract
from etl.readings.records import Answer, Poll, RejectedError
from etl.sources import extraction
from etl.sources.extraction import MAX_EVALUATIONS, Extraction
from tests.support.http_sources import Inbox, poll_all


class Bodies:
    """A transport that answers at once, on the calling thread."""

    def __init__(self, bodies: dict[str, list[bytes]]) -> None:
        self.bodies = bodies
        self.is_closed = False

    def start(self, names, deliver):
        for name in names:
            deliver([Poll(name, 5.0, tuple(Answer(body, n) for n, body in enumerate(self.bodies[name])))])

    def close(self):
        self.is_closed = True


@pytest.fixture
def opened():
    transports = []

    def build(bodies, expression, timeout=60.0):
        names = [name for name in bodies if not name.startswith("plain")]
        compiled = dict.fromkeys(names, jmespath.compile(expression))
        transports.append(Extraction(Bodies(bodies), compiled, dict.fromkeys(names, timeout)))
        return transports[-1]

    yield build
    for transport in transports:
        transport.close()


def test_each_record_is_an_answer_and_keeps_time_and_position(opened):
    """Records are answers of their own, with the time of the answer and its position in a followed file."""
    transport = opened({"a": [b'{"m": [{"id": 1}, {"id": 2}]}', b"broken", b'{"m": [{"id": 3}, 4]}']}, "m")
    poll = poll_all(transport, ["a"]).of("a")
    assert poll.at == 5.0
    assert [(orjson.loads(answer.body)["id"], answer.mark) for answer in poll.answers] == [(1, 0), (2, 0), (3, 2)]
    assert [error.reason for error in poll.rejections] == ["not_json", "not_object"]


def test_a_source_without_an_expression_is_delivered_at_once(opened):
    """What has no expression does not wait for those that are evaluated."""
    transport = opened({"plain": [b"anything"]}, "m")
    inbox = Inbox()
    transport.start(["plain"], inbox)
    assert inbox.of("plain").answers == (Answer(b"anything", 0),)


def test_an_answer_that_waits_beyond_its_deadline_is_busy(opened, monkeypatch):
    """A poll whose evaluation cannot begin by its deadline fails; the others are not affected."""
    release, busy = threading.Event(), threading.Barrier(MAX_EVALUATIONS + 1)

    def split(poll, *_):
        busy.wait()
        release.wait()
        return poll

    monkeypatch.setattr(extraction, "split", split)
    names = [f"slow-{n}" for n in range(MAX_EVALUATIONS)]
    transport = opened({name: [b"{}"] for name in [*names, "late"]}, "@")
    inbox = Inbox()
    transport.start(names, inbox)
    busy.wait()
    transport._timeouts["late"] = 0.0
    transport.start(["late"], inbox)
    release.set()
    inbox.wait([*names, "late"])
    assert inbox.of("late").failure.reason == "busy"
    assert [inbox.of(name).failure for name in names] == [None] * MAX_EVALUATIONS


def test_any_error_of_the_evaluation_is_a_failure_of_that_poll(opened, monkeypatch):
    """An error that nobody foresaw is a failure of the poll, and the next poll is evaluated again."""
    transport = opened({"a": [b'{"m": {"id": 1}}']}, "m")
    with monkeypatch.context() as broken:
        broken.setattr(extraction, "split", lambda *_: 1 / 0)
        assert poll_all(transport, ["a"]).of("a").failure.reason == "failed"
    assert poll_all(transport, ["a"]).of("a").answers == (Answer(b'{"id":1}', 0),)


def test_what_was_read_before_the_end_is_still_evaluated(opened):
    """A result that arrives after `close` is delivered: the lines of a followed file count as read."""
    transport = opened({"a": [b'{"m": {"id": 1}}']}, "m")
    transport.close()
    assert transport._transport.is_closed
    assert poll_all(transport, ["a"]).of("a").answers == (Answer(b'{"id":1}', 0),)


@pytest.mark.parametrize(
    ("item", "expression"),
    [
        (b"{}", "[].{id: serial, " + ", ".join(f"f{n}: a.b{n}" for n in range(30)) + "}"),
        (b"1", "[].[@,@,@,@][].[@,@,@,@][].[@,@,@,@]"),
        (b"1", "@" + " | [@,@,@,@] | []" * 30),
        (b"[1]", "sort_by(@, &sum([sum(@), sum(@), sum(@), sum(@), sum(@)]))"),
        (b"[]", "map(&[@,@,@,@,@,@,@,@,@,@], @)"),
    ],
    ids=["many fields", "multiselect", "flatten of flatten", "sort_by", "map"],
)
def test_an_expression_that_multiplies_ends_early(item, expression):
    """However many items an answer has, its evaluation ends after a number of steps, and the answer is rejected."""
    body = b"[" + b",".join([item] * (MAX_STRUCTURE // 2 - 9)) + b"]"
    with pytest.raises(RejectedError) as error:
        extract(body, jmespath.compile(expression))
    assert error.value.reason == "too_many"


def test_ten_thousand_machines_of_a_dozen_fields_are_within_the_bounds():
    """The bounds leave room for the largest answer that the documents promise, with nested values."""
    fields = {f"f{n}": {"value": n} for n in range(5)}
    body = orjson.dumps({"machines": [{"serial": n, **fields} for n in range(MAX_RECORDS)]})
    names = ", ".join(f"f{n}: f{n}.value" for n in range(5))
    assert len(extract(body, jmespath.compile(f"machines[].{{id: serial, {names}}}"))) == MAX_RECORDS


def test_a_rejected_answer_does_not_stay_in_memory(opened):
    """Why an answer was rejected is kept without the decoded answer, which would wait for the garbage collector."""
    poll = poll_all(opened({"a": [b'{"m": 1}', b'{"m": [1]}', b"broken"]}, "sort_by(m, &x)"), ["a"]).of("a")
    assert len(poll.rejections) == 3
    assert all(error.__traceback__ is None for error in poll.rejections)
