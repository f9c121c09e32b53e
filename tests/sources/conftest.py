"""Servers and transports that are closed when a test ends, in an environment without proxies and logins."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from etl.config.sources.mqtt import MqttSource
from etl.sources import poll_threads
from etl.sources.contract import Target
from etl.sources.http.requests_transport import Requests
from tests.support import servers
from tests.support.brokers import MOSQUITTO, Broker, Publisher
from tests.support.http_sources import PATIENCE, TRANSPORTS, Curl, open_resources
from tests.support.kinds import context
from tests.support.servers import Server, Talk


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    """An environment without proxies, certificates and logins."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def nothing_left():
    """After the test, once its servers and transports are closed, no thread and no descriptor is left."""
    threads, descriptors = open_resources()
    yield
    deadline = time.monotonic() + PATIENCE
    while (now := open_resources())[0] > threads or now[1] > descriptors:
        assert time.monotonic() < deadline, f"{now} threads and descriptors, not {(threads, descriptors)}"
        time.sleep(0.005)


@pytest.fixture
def serve(nothing_left):
    """Start servers, which are closed when the test ends."""
    with ExitStack() as stack:

        def start(talk: Talk | None, **how) -> Server:
            server = Server(talk, **how)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture(params=TRANSPORTS, ids=lambda kind: kind.__name__)
def make(request, serve):
    """Build transports of each kind; they are closed when the test ends."""
    with ExitStack() as stack:

        def build(*sources: Target):
            transport = request.param(sources, time.time)
            stack.callback(transport.close)
            return transport

        yield build


@pytest.fixture
def never_slow(monkeypatch):
    """No poll counts as slow, however loaded this computer is; returns the most polls that may then be in flight."""
    modules = [poll_threads, sys.modules[Curl.__module__]] if Curl else [poll_threads]
    for module in modules:
        monkeypatch.setattr(module, "SLOW_S", PATIENCE)
    return max(module.MAX_NEW_POLLS for module in modules)


@pytest.fixture
def one_place(never_slow, monkeypatch):
    """Only one poll may be in flight."""
    for module in [poll_threads, sys.modules[Curl.__module__]] if Curl else [poll_threads]:
        monkeypatch.setattr(module, "MAX_NEW_POLLS", 1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("the openssl command makes the certificates, and is not installed")
    return servers.make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def resolving(monkeypatch):
    """Let a name resolve to these ports of 127.0.0.1; without any, the resolver hangs until the test ends."""
    real, end = socket.getaddrinfo, threading.Event()

    def resolve(*ports: int) -> None:
        def getaddrinfo(host, port, *args, flags: int = 0, **how):
            if host != "machine.example" or flags & socket.AI_NUMERICHOST:
                return real(host, port, *args, flags=flags, **how)
            if not ports:
                end.wait(PATIENCE)
            return [entry for port in ports for entry in real("127.0.0.1", port, *args, **how)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    yield resolve
    end.set()


@pytest.fixture
def make_requests(serve):
    """Build transports over requests, which resolve names with socket.getaddrinfo."""
    with ExitStack() as stack:

        def build(*sources: Target) -> Requests:
            transport = Requests(sources, time.time)
            stack.callback(transport.close)
            return transport

        yield build


@pytest.fixture
def stack(nothing_left):
    """Closes what a test of MQTT started."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def broker(stack, tmp_path):
    """A real mosquitto."""
    if not MOSQUITTO:
        pytest.skip("no mosquitto here (Debian: mosquitto)")
    started = Broker(tmp_path)
    stack.callback(started.close)
    return started


@pytest.fixture
def publisher(stack, broker):
    """Publishes to it."""
    return stack.enter_context(Publisher(broker))


@pytest.fixture
def subscribed(stack, tmp_path):
    """Open transports of MQTT, which are closed when the test ends."""
    from etl.sources.mqtt.transport import MqttTransport  # noqa: PLC0415  it needs the extra

    def build(*sources: MqttSource, **settings) -> MqttTransport:
        transport = MqttTransport(sources, context(tmp_path, **settings))
        stack.callback(transport.settle, PATIENCE)
        stack.callback(transport.close)
        return transport

    return build
