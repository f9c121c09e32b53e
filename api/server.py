"""The WSGI server: waitress, set up to stay idle while there are no requests."""

import errno
import socket
import threading
from ipaddress import ip_address
from typing import Any

from flask import Flask
from waitress.server import create_server

THREADS = 8
"""Requests answered at the same time: the console's two, and room for scrapers and machines."""
MAX_REQUEST_BYTES = 64 << 20
"""Waitress cuts the connection beyond this; up to it, the application can refuse a long body with a JSON 413."""
IDLE_WAKEUP_S = 60
"""Waitress wakes up this often without a request, to close idle connections; its default is every second."""


def serve(app: Flask, host: str, port: int) -> int:
    """Serve from daemon threads until the process ends; the port, which the system chooses for port 0.

    OSError if the server cannot listen on this address.
    """
    family, address = _resolve(host, port)
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    server = create_server(
        app,
        sockets=[listener],
        threads=THREADS,
        max_request_body_size=MAX_REQUEST_BYTES,
        asyncore_loop_timeout=IDLE_WAKEUP_S,
        asyncore_use_poll=True,  # select() fails with more than 1,024 open descriptors
        ident=None,
    )
    threading.Thread(target=server.run, name="api", daemon=True).start()
    return int(listener.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this address or name; OSError if it cannot be resolved."""
    _, address = _resolve(host, 0)
    return ip_address(address[0].partition("%")[0]).is_loopback


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return family, socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except UnicodeError:  # the name cannot be encoded for DNS
        raise OSError(errno.EADDRNOTAVAIL, "this is not a valid address") from None
