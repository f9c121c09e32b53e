"""python -m etl."""

import os
import sys

import etl

if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(etl.__file__)):
    # `python -m` puts the current folder first: what lies there would be imported from here on, in workers too.
    del sys.path[0]

from etl.cli.main import main

if __name__ == "__main__":
    main()
