"""A transport that answers by script, instead of a machine."""

from __future__ import annotations

import jmespath

from etl.readings.records import Answer, Failure, Poll
from etl.sources.extraction import Extraction
from tests.support.process import HANG_S


class Script:
    """A transport with a scripted answer for each source; a hanging source answers when the test delivers it."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.answers = {}
        self.hanging = set()
        self.pending = []

    def start(self, names, deliver):
        for name in names:
            if name in self.hanging:
                self.pending.append((name, deliver))
            else:
                self.deliver(name, deliver)

    def deliver(self, name, deliver):
        outcome = self.answers.get(name, b'{"temperature": 20, "fan_speed": 900}')
        if isinstance(outcome, Failure):
            deliver([Poll(name, self.clock(), failure=outcome)])
        else:
            bodies = outcome if isinstance(outcome, list) else [outcome]
            deliver([Poll(name, self.clock(), tuple(Answer(body) for body in bodies))])

    def close(self):
        pass


def run_tick(here, names=("a", "b", "c")):
    """Run one tick of these sources, and move the clock to the next."""
    here.pipeline.poller.poll(names)
    if not here.script.hanging:
        assert here.pipeline.poller.drain(HANG_S)
    here.pipeline.writer.tick()
    here.clock.now += 10


def use_records(here, expression: str, name: str = "a", timeout: float = HANG_S) -> None:
    """Extract the records of a scripted source with a JMESPath expression, as a config with `records` does."""
    transport = Extraction(here.script, {name: jmespath.compile(expression)}, {name: timeout})
    here.pipeline.poller.use({**dict.fromkeys(["a", "b", "c"], here.script), name: transport})
