"""A closed day's report, made in this process or in a child at low priority, by as many workers as the config asks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etl.nightly.child import in_child
from etl.readings.records import Settings
from etl.storage.folder import Folder
from etl.storage.settings_log import SettingsLog

if TYPE_CHECKING:
    from etl.nightly.report import Page

log = logging.getLogger("etl")

MakeReport = Callable[[Folder, str, Settings, int, str | None], Path]
"""From the folder, a day, the settings where the folder has none, workers and the cluster: the report's path."""


def here(page: Page | None = None) -> MakeReport:
    """Build what makes reports, with their pages, in this process, or from it; OSError where they cannot be written."""
    return lambda *asked: _told(_make(page, *asked))


def in_a_child(page: Page | None, stopping: Callable[[], bool]) -> MakeReport:
    """Build what makes them in a child process, and raises StoppedError once `stopping` is true.

    `page` is a function of a module: the child finds it by its name.
    """
    return lambda folder, *asked: _told(in_child(_make, page, Folder(folder.root), *asked, stopping=stopping))


def _make(
    page: Page | None, folder: Folder, day: str, default: Settings, workers: int, cluster: str | None
) -> tuple[Path, list[str]]:
    """Make the report; its path, and sentences for people."""
    # OpenBLAS, which numpy brings, would start a thread for each core, for nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from etl.nightly.executors import run_parallel  # noqa: PLC0415  both load what only the child needs
    from etl.nightly.report import write_report  # noqa: PLC0415

    sentences: list[str] = []
    work = partial(write_report, SettingsLog(folder, default), day, page=page)
    return run_parallel(work, workers, cluster, sentences.append), sentences


def _told(made: tuple[Path, list[str]]) -> Path:
    path, sentences = made
    for sentence in sentences:
        log.warning("%s", sentence)
    return path
