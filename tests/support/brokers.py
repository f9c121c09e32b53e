"""A real mosquitto on a free port, and a publisher that keeps its messages while the broker is away."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from etl.config.sources.mqtt import MqttSource
from tests.support.http_sources import PATIENCE, Inbox, poll_all
from tests.support.process import HANG_S, free_port, until

TOPIC = "plant/press-7/telemetry"
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
needs_mosquitto = pytest.mark.skipif(not MOSQUITTO, reason="no mosquitto here (Debian: mosquitto)")


class Broker:
    """A mosquitto that keeps its sessions in a folder; `settings` are further lines of its configuration."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self.address = f"mqtt://127.0.0.1:{self.port}"
        self._folder = folder / f"broker-{self.port}"
        self._folder.mkdir(mode=0o777)
        lines = ["persistence true", f"persistence_location {self._folder}/", "user root", "log_dest stderr"]
        if not any(line.startswith("listener") for line in settings):
            lines.append(f"listener {self.port} 127.0.0.1")
        if not any(line.startswith("password_file") for line in settings):
            lines.append("allow_anonymous true")
        self.config = self._folder / "mosquitto.conf"
        self.config.write_text("\n".join([*lines, *(line.format(port=self.port) for line in settings)]) + "\n")
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stdout=log, stderr=log)
        until(self._listens, HANG_S)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        assert self._process.poll() is None, self.log
        return False

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; at SIGTERM it saves its sessions."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait(HANG_S)
            self._process = None

    close = stop


class Publisher:
    """Publishes readings with QoS 1, and those it could not deliver when the broker is back."""

    def __init__(self, broker: Broker, **login: str) -> None:
        from paho.mqtt.client import CallbackAPIVersion, Client  # noqa: PLC0415  the extra may be missing

        self._client = Client(CallbackAPIVersion.VERSION2, f"publisher-{id(self)}", clean_session=False)
        self._client.reconnect_delay_set(0.05, 0.2)
        self._client.max_inflight_messages_set(1000)
        if login:
            self._client.username_pw_set(**login)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._numbers = itertools.count()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def send(self, count: int = 1, topic: str = TOPIC, **how) -> list[int]:
        """Publish this many numbered readings, and wait until the broker has them."""
        until(self._client.is_connected)
        numbers = [next(self._numbers) for _ in range(count)]
        sent = [self._client.publish(topic, reading(number), qos=1, **how) for number in numbers]
        for message in sent:
            message.wait_for_publish(HANG_S)
        return numbers

    def queue(self, count: int = 1, topic: str = TOPIC) -> list[int]:
        """Publish without waiting: the broker may be away."""
        numbers = [next(self._numbers) for _ in range(count)]
        for number in numbers:
            self._client.publish(topic, reading(number), qos=1)
        return numbers

    def send_bytes(self, payload: bytes, topic: str = TOPIC, **how) -> None:
        """Publish any payload, and wait until the broker has it."""
        until(self._client.is_connected)
        self._client.publish(topic, payload, **{"qos": 1, **how}).wait_for_publish(HANG_S)

    def repeat(self, payload: bytes | None = None, every_s: float = 0.02) -> None:
        """Publish numbered readings, or this payload, until the end."""

        def publish() -> None:
            while not self._end.wait(every_s):
                self._client.publish(TOPIC, payload or reading(next(self._numbers)), qos=1)

        self._thread = threading.Thread(target=publish, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        if self._thread:
            self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
        del self._client, self._thread  # paho closes its descriptors then


def delete_session(broker: Broker, client_id: str) -> None:
    """Connect under this id without a session, which ends that of another client, and disconnect."""
    from paho.mqtt.client import CallbackAPIVersion, Client  # noqa: PLC0415  the extra may be missing

    client = Client(CallbackAPIVersion.VERSION2, client_id, clean_session=True)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    until(client.is_connected)
    client.disconnect()
    client.loop_stop()


def reading(number: int) -> str:
    return json.dumps({"id": 1, "temperature": 20.5, "fan_speed": 900 + number % 7, "n": number})


def source(broker: Broker, topic: str = TOPIC, **keys) -> MqttSource:
    return MqttSource(name=keys.pop("name", "m"), mqtt=f"{broker.address}/{topic}", **keys)


def numbers(inbox: Inbox) -> list[int]:
    """The numbers of the readings that came."""
    return [msgspec.json.decode(answer.body)["n"] for poll in inbox.polls for answer in poll.answers]


def write(inbox: Inbox) -> None:
    """Let all that came be written."""
    for poll in inbox.polls:
        if poll.receipt:
            poll.receipt.written()


def end(transport) -> None:
    transport.close()
    transport.settle(PATIENCE)


def failure_of(transport):
    """The failure of the first poll that has an end; polls before the first attempt has one wait for it."""
    return poll_all(transport, ["m"]).first("m").failure
