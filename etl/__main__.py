"""python -m etl, and the command `etl`."""

import signal
import sys
from importlib import import_module

from etl.live.signals import HANDLED


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        # Its imports take a moment: signals wait for the handlers, which `Signals` installs before the config is read.
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    import_module("etl.cli.main").main()


if __name__ == "__main__":
    main()
