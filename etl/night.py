"""A closed day's report, made in this process or in a child at low priority, by as many workers as the config asks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from etl.child import in_child
from etl.executors import executed
from etl.folder import Folder
from etl.records import Settings
from etl.report import write_report

log = logging.getLogger("etl")

MakeReport = Callable[[Folder, str, Settings, int, str | None], Path]
"""From the folder, a day, the settings where the folder has none, workers and the cluster: the report's path."""


def make_here(folder: Folder, day: str, otherwise: Settings, workers: int, cluster: str | None) -> Path:
    """Make the report in this process, or from it.

    Raises:
        FileNotFoundError: there is no raw log of that day.
        OSError: the report cannot be written.

    """
    return _told(_make(folder, day, otherwise, workers, cluster))


def in_a_child(stopping: Callable[[], bool]) -> MakeReport:
    """Build what makes reports in a child process, and raises StoppedError once `stopping` is true."""
    return lambda folder, *asked: _told(in_child(_make, Folder(folder.root), *asked, stopping=stopping))


def _make(folder: Folder, day: str, otherwise: Settings, workers: int, cluster: str | None) -> tuple[Path, list[str]]:
    """Make the report; its path, and sentences for people."""
    sentences: list[str] = []
    work = partial(write_report, folder, day, otherwise)
    return executed(work, workers, cluster, sentences.append), sentences


def _told(made: tuple[Path, list[str]]) -> Path:
    path, sentences = made
    for sentence in sentences:
        log.warning("%s", sentence)
    return path
