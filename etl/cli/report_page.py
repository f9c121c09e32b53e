"""The page of a report, for `run`, `report` and `rebuild`. It loads Jinja when a page is rendered, and never numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.nightly.report import Series


def report_page(report: dict[str, Any], series: Sequence[Series]) -> bytes:
    """The HTML page of a report."""
    from api.pages import report_page as render  # noqa: PLC0415  only a written report needs Jinja

    return render(report, series)
