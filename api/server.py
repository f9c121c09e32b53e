"""The WSGI server: waitress, with few wake-ups when nobody asks."""

from __future__ import annotations

import errno
import socket
import threading
from ipaddress import ip_address
from typing import Any

import orjson
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

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
    server.channel_class = _Channel
    threading.Thread(target=server.run, name="api", daemon=True).start()
    bound: int = listening.getsockname()[1]
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address.

    Raises:
        OSError: there is none of this name.

    """
    _, address = _address(host, 0)
    return ip_address(address[0].partition("%")[0]).is_loopback


class _ErrorTask(ErrorTask):  # type: ignore[misc]
    """Answers what is not HTTP, before the application sees it, in JSON as everything else."""

    def execute(self) -> None:
        error = self.request.error
        body = orjson.dumps({"error": f"{error.reason}: {error.body}"})
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]
    error_task_class = _ErrorTask


def _address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The address to listen on.

    Raises:
        OSError: there is none of this name.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return family, socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    except UnicodeError:  # a name that cannot even be asked for
        raise OSError(errno.EADDRNOTAVAIL, "this is no address") from None


def _listening(host: str, port: int) -> socket.socket:
    family, address = _address(host, port)
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening
