"""The Flask API: simulated machines, and the console of a running process. It imports nothing of etl.

What serves is loaded when it is asked for: a night that draws its report with `pages` needs no Flask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.app import create_app
    from api.console import Views
    from api.guard import Guard
    from api.machines import Machines

__all__ = ["Guard", "Machines", "Views", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from api import app  # noqa: PLC0415

    return getattr(app, name)
