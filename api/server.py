"""The WSGI server: waitress, set up to stay idle while there are no requests."""

import errno
import logging
import resource
import socket
import sys
import threading
from ipaddress import ip_address
from typing import Any

from flask import Flask

from api.connections import Server

THREADS = 8
"""Requests answered at the same time: the console's two, and room for scrapers and machines."""
MAX_CONNECTIONS = 500
"""Open at the same time: a few consoles, scrapers and, with `transport: curl`, a connection for each simulated machine
that is polled. Looking through so many takes half a millisecond."""
CONNECTIONS_SHARE = 4
"""At most every fourth descriptor is a connection: polls and files need the others."""
MAX_REQUEST_BYTES = 16 << 20
"""A longer body is refused before it is read; up to it, it is read to its end so that the connection stays open."""
MAX_HEADER_BYTES = 32 << 10
"""Headers with a longer sum are refused; browsers and proxies accept about as much."""


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
    # Requests that wait for a thread are no fault: each connection has at most one there, and many machines are polled
    # at once.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Server(
        app,
        _sock=listener,
        bind_socket=False,
        sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
        threads=THREADS,
        connection_limit=min(MAX_CONNECTIONS, descriptors // CONNECTIONS_SHARE),
        max_request_body_size=MAX_REQUEST_BYTES,
        max_request_header_size=MAX_HEADER_BYTES,
        outbuf_overflow=sys.maxsize,  # never to a temporary file
        outbuf_high_watermark=sys.maxsize,  # no thread waits for a client
        clear_untrusted_proxy_headers=False,  # the guard decides whom to trust
        log_socket_errors=False,
        ident=None,
    )
    threading.Thread(target=server.run, name="api", daemon=True).start()
    return int(listener.getsockname()[1])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this address or name; OSError if it cannot be resolved."""
    _, address = _resolve(host, 0)
    return ip_address(address[0].partition("%")[0]).is_loopback


def is_about_port(error: OSError) -> bool:
    """Whether another port would help against an error of listening; else another address may."""
    return error.errno in (errno.EADDRINUSE, errno.EACCES)


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return family, socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except UnicodeError:  # the name cannot be encoded for DNS
        raise OSError(errno.EADDRNOTAVAIL, "this is not a valid address") from None
