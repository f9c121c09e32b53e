"""The WSGI server: waitress, with few wake-ups when nobody asks."""

from __future__ import annotations

import errno
import socket
import threading

from flask import Flask
from waitress.server import create_server

THREADS = 8
BIGGEST = 64 << 20
"""Bytes of a request that are taken in before the application refuses it; beyond, the connection is cut."""


def serve(app: Flask, host: str, port: int) -> int:
    """Listen, and answer from threads of its own until the process ends; the port, which 0 leaves to the system.

    Raises:
        OSError: the address cannot be listened on, for example because the port is in use.

    """
    listening = _listening(host, port)
    server = create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        max_request_body_size=BIGGEST,
        asyncore_loop_timeout=60,
        asyncore_use_poll=True,  # select() fails once the process has more than 1,024 descriptors
        ident=None,
    )
    threading.Thread(target=server.run, name="api", daemon=True).start()
    bound: int = listening.getsockname()[1]
    return bound


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except UnicodeError:  # a name that cannot even be asked for
        raise OSError(errno.EADDRNOTAVAIL, "this is no address") from None
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening
