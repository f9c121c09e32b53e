"""GET /export: one machine's day as a CSV file."""

from __future__ import annotations

import http.client
import socket
import threading
import time

import pytest

from api.app import create_app
from api.export import MAX_EXPORTS, MAX_UNSENT_BYTES
from api.machines import Machines
from api.server import serve
from tests.support.api import EMPTY, client, console, is_error
from tests.support.process import Site, end, until

PATH = "/export/2026-11-22.csv"


def test_a_machine_day_is_a_file():
    """The answer is CSV, and its name has the day, the source and the id."""
    answer = console().get(f"{PATH}?source=press-7&id=7")
    assert (answer.status_code, answer.data, answer.mimetype) == (200, b"a\r\n1\r\n", "text/csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="2026-11-22-press_7-7.csv"'


@pytest.mark.parametrize(
    ("query", "name"),
    [("source=a", "2026-11-22-a"), ("source=../../etc/passwd&id=%22%22", "2026-11-22-etc_passwd-_"),
     ("source=%22%0d%0aSet-Cookie:x&id=1e3", "2026-11-22-Set_Cookie_x-1000.0"),
     ("source=%ff%00%E2%80%AE", "2026-11-22-_"), ("source=" + "x" * 200, "2026-11-22-" + "x" * 60)],
)  # fmt: skip
def test_the_name_of_the_file_is_safe(query, name):
    """Whatever a source is named, the file's name is short and plain ASCII."""
    answer = console().get(f"{PATH}?{query}")
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}.csv"'


@pytest.mark.parametrize(
    ("path", "code"),
    [("/export/2026-11-21.csv?source=a", 404), ("/export/2026-11-31.csv?source=a", 404),
     ("/export/today.csv?source=a", 404), ("/export/2026-11-22?source=a", 404),
     ("/export/..%2f2026-11-22.csv?source=a", 404), ("/export/.csv?source=a", 404), (PATH, 400),
     (f"{PATH}?source=&id=1", 400)],
)  # fmt: skip
def test_what_does_not_exist_is_a_json_error(path, code):
    """A day without lines of the machine, a path without a day, and a query without a source are errors as JSON."""
    assert is_error(console().get(path), code)


def test_the_id_is_json():
    """7 and "7" are different machines, and what is no JSON is no id."""
    seen = []
    app = client(views=EMPTY._replace(export=lambda day, source, key: seen.append((day, source, key)) or iter([b""])))
    for text in ("7", "%227%22", "null", "[1]", "{", "%22%5Cud800%22", "12345678901234567890123"):
        app.get(f"{PATH}?source=a&id={text}", buffered=True)
    app.get(f"{PATH}?source=%C3%BC", buffered=True)
    day = "2026-11-22"
    keys = [7, "7", None, None, None, None, 12345678901234567890123]
    assert seen == [*((day, "a", key) for key in keys), (day, "ü", None)]


def test_only_some_are_sent_at_the_same_time():
    """A further request gets 503 with Retry-After; a place is free again once an answer was read or refused."""
    app = client(
        views=EMPTY._replace(export=lambda day, source, key: iter([b"a\r\n", b"b\r\n"]) if source == "a" else None)
    )
    for method in (app.get, app.head):
        for _ in range(2 * MAX_EXPORTS):
            assert is_error(app.get(f"{PATH}?source=b"), 404)
            assert method(f"{PATH}?source=a", buffered=True).status_code == 200
    unread = [app.get(f"{PATH}?source=a", buffered=False) for _ in range(MAX_EXPORTS)]
    refused = app.get(f"{PATH}?source=a")
    assert is_error(refused, 503)
    assert int(refused.headers["Retry-After"]) > 0
    unread[0].close()
    assert app.get(f"{PATH}?source=a").status_code == 200


def test_a_file_that_cannot_be_read_is_503():
    """The error is JSON, and the place is free again."""

    def fail(day, source, key):
        raise OSError(5, "the file is damaged", "x.gz")

    app = client(views=EMPTY._replace(export=fail))
    for _ in range(2 * MAX_EXPORTS):
        assert is_error(app.get(f"{PATH}?source=a"), 503)


def test_a_slow_client_gets_the_whole_file_piece_by_piece():
    """What is read waits until the client has taken what is before it: memory does not grow with the file."""
    taken = 0
    piece = b"x" * (1 << 18)

    def pieces():
        nonlocal taken
        while taken < 64:
            taken += 1
            yield piece

    port = serve(create_app(Machines(1), EMPTY._replace(export=lambda day, source, key: pieces())), "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.request("GET", f"{PATH}?source=a")
    answer = connection.getresponse()
    until(lambda: taken * len(piece) > MAX_UNSENT_BYTES)
    time.sleep(0.3)  # it does not go on
    assert taken < 64
    assert len(answer.read()) == 64 * len(piece)
    connection.close()


def test_a_client_that_leaves_frees_its_place():
    """A connection that is closed in the middle ends the reading, and others can export again."""
    ended = threading.Event()

    def pieces():
        try:
            while True:
                yield b"x" * (1 << 16)
        finally:
            ended.set()

    port = serve(create_app(Machines(1), EMPTY._replace(export=lambda day, source, key: pieces())), "127.0.0.1", 0)
    for _ in range(2 * MAX_EXPORTS):
        ended.clear()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", f"{PATH}?source=a")
        sock = connection.sock
        with connection.getresponse() as answer:
            assert answer.status == 200
            sock.shutdown(socket.SHUT_RDWR)
        assert ended.wait(60)


def test_a_running_process_exports_its_day(tmp_path):
    """`etl run` serves the averages it wrote, of today too."""
    site = Site(tmp_path)
    site.save(timezone="UTC")
    with site.running() as process:
        until(lambda: len(site.lines("averages")) > 3)
        line = site.lines("averages")[0]
        text = site.fetch(f"/export/{line['polled_at'][:10]}.csv?source=machine-1&id=1").decode()
        end(process)
    header, first, *_ = text.split("\r\n")
    assert header == ",".join(line)
    assert first == ",".join(repr(value) if isinstance(value, float) else str(value) for value in line.values())
