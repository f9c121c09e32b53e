"""Receivers of notifications on loopback ports: a web hook, and a mail server."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

from tests.support.process import HANG_S, free_port

SECRET = "hunter2"


class Receiver(ThreadingHTTPServer):
    """Takes notifications; `taken` are those it was sent, by its paths. It answers while `ready` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        self.taken: list[dict] = []
        self.paths: list[str] = []
        self.ready = threading.Event()
        self.ready.set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook/{SECRET}"

    def told(self, event: str) -> list[dict]:
        return [message for message in self.taken if message.get("event") == event]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        assert self.headers["Content-Type"] == "application/json"
        self.server.paths.append(self.path)
        self.server.ready.wait(HANG_S)
        self.server.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiving():
    with Receiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join(HANG_S)


class Mailbox:
    """What a mail server took; `taken` are the messages."""

    def __init__(self) -> None:
        self.taken = []

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  aiosmtpd calls it so
        self.taken.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@contextmanager
def receiving_mail():
    """A mail server; its mailbox, and the address of Apprise that sends to it."""
    mailbox, port = Mailbox(), free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox, f"mailto://127.0.0.1:{port}?from=etl@plant.example&to=shift@plant.example"
    finally:
        controller.stop()
