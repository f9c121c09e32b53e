"""The end of a process whose writer is busy: what was written is told as it is."""

from __future__ import annotations

import logging
import threading

import pytest

from etl.cli import run
from etl.live.signals import Signals
from etl.live.sinks.stdout import Stdout
from tests.support.plant import Plant


def finish(here: Plant, monkeypatch, tmp_path) -> int:
    """End a process whose writer waits for a lock; the exit code."""
    monkeypatch.setattr(run, "WRITER_PATIENCE_S", 0.1)
    writer = threading.Thread(target=here.pipeline.writer.run)
    with here.pipeline.writer.paused(), (tmp_path / "stdout").open("wb") as out:
        writer.start()
        code = run._finish(here.pipeline, writer, Stdout(out.fileno()), Signals())
    writer.join()
    return code


@pytest.fixture(autouse=True)
def _handlers(monkeypatch):
    """Leave the signal handlers of the tests alone."""
    monkeypatch.setattr("signal.signal", lambda *_: None)


def test_a_busy_writer_that_has_written_every_reading_is_no_error(plant, monkeypatch, tmp_path, caplog):
    """A writer that is busy after its last reading loses nothing: the exit code is 0."""
    here = plant()
    here.tick(3)
    with caplog.at_level(logging.WARNING, "etl"):
        assert finish(here, monkeypatch, tmp_path) == 0
    assert "could not be written" not in caplog.text


def test_answers_that_a_busy_writer_did_not_take_are_counted(plant, monkeypatch, tmp_path, caplog):
    """Answers that wait for the writer are lost at the end: they are counted, and the exit code is 74."""
    here = plant()
    here.tick(3)
    here.pipeline.poller.poll(here.pipeline.names)
    assert finish(here, monkeypatch, tmp_path) == 74
    assert "1 reading could not be written to" in caplog.text
