"""The WSGI server: waitress, with few wake-ups when nobody asks."""

from __future__ import annotations

import threading

from flask import Flask
from waitress.server import create_server

THREADS = 8


def serve(app: Flask, host: str, port: int) -> None:
    """Listen, and answer from threads of its own until the process ends.

    Raises:
        OSError: the address cannot be listened on, for example because the port is in use.

    """
    server = create_server(app, host=host, port=port, threads=THREADS, asyncore_loop_timeout=60, ident=None)
    threading.Thread(target=server.run, name="api", daemon=True).start()
