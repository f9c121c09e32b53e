"""python -m etl, and the command `etl`."""

import os
import signal
import sys
from importlib import import_module

import etl

if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(etl.__file__)):
    # `python -m` puts the current folder first: what lies there would be imported from here on, in workers too.
    del sys.path[0]


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["run"]:
        # Its imports take a moment: signals wait for the handlers, which `Signals` installs before the config is read.
        signal.pthread_sigmask(signal.SIG_BLOCK, import_module("etl.live.signals").HANDLED)
    import_module("etl.cli.main").main()


if __name__ == "__main__":
    main()
