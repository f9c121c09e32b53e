"""CPU a message of `etl run` over MQTT, beside a bare paho client that writes each payload to a file.

python -m tests.benchmarks.messages [--rates 1000 5000] [--seconds 30]

Both subscribe to the same mosquitto with QoS 1 and a persistent session; a process of its own publishes readings.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import CallbackAPIVersion, Client

from tests.benchmarks.idle import cpu_seconds, rss_mib
from tests.support.brokers import Broker
from tests.support.process import free_port, until

MACHINES = 100
"""Topics that the messages are spread over."""
STEP_S = 0.01
"""The publisher waits this long for acknowledgements before it sends what is due."""


def publish(port: int, rate: int, seconds: float) -> None:
    """Publish readings at a rate, each with a number and the moment it was sent."""
    client = Client(CallbackAPIVersion.VERSION2, "publisher")
    client.max_inflight_messages_set(10_000)
    acknowledged = []
    client.on_publish = lambda *_: acknowledged.append(1)
    client.connect("127.0.0.1", port)
    until(lambda: client.loop(STEP_S) or client.is_connected())
    begin, number = time.monotonic(), 0
    while len(acknowledged) < int(rate * seconds):
        due = min(int((time.monotonic() - begin) * rate), int(rate * seconds))
        while number < due:
            machine = number % MACHINES
            body = {"id": machine, "temperature": 20.5, "fan_speed": 900, "status": "IDLE", "n": number}
            client.publish(f"plant/{machine}/telemetry", json.dumps(body | {"sent": time.time()}), qos=1)
            number += 1
        client.loop(STEP_S)
    client.disconnect()


def bare(port: int, file: str) -> None:
    """A paho client that appends each payload to a file, and acknowledges it at once."""
    client = Client(CallbackAPIVersion.VERSION2, "bare", clean_session=False)
    with Path(file).open("ab", buffering=0) as lines:
        client.on_message = lambda _, __, message: lines.write(message.payload + b"\n")
        client.on_connect = lambda *_: client.subscribe("plant/+/telemetry", 1)
        client.connect("127.0.0.1", port)
        client.loop_forever()


@contextmanager
def reader(variant: str, broker: Broker, folder: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """The process that reads the broker, and the file it writes."""
    if variant == "bare":
        file = folder / "bare.jsonl"
        command = [sys.executable, "-m", "tests.benchmarks.messages", "--bare", str(broker.port), str(file)]
        where = Path(__file__).parents[2]
    else:
        file, where = folder / "output" / "raw.jsonl", folder
        config: dict[str, Any] = {"sources": [{"name": "m", "mqtt": f"{broker.address}/plant/+/telemetry"}]}
        config |= {"timezone": "UTC", "api": {"port": free_port()}}
        config["output"] = {"stdout": [], "fsync": variant.removeprefix("fsync=")}
        (folder / "config.yaml").write_text(json.dumps(config))
        command = [sys.executable, "-m", "etl", "run"]
    with subprocess.Popen(command, cwd=where, stderr=(folder / "stderr").open("w")) as process:
        until(lambda: "as bare" in broker.log or "as etl-m" in broker.log)
        time.sleep(1)
        yield process, file
        process.send_signal(signal.SIGTERM)


def measure(variant: str, rate: int, seconds: float) -> dict[str, float]:
    """One variant at one rate: CPU a message, how late it is read, what is lost."""
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder), "max_queued_messages 0", "max_inflight_messages 1000")
        count = int(rate * seconds)
        try:
            with reader(variant, broker, Path(folder)) as (process, file):
                cpu = cpu_seconds(process.pid)
                arguments = ["--publish", str(broker.port), str(rate), str(seconds)]
                subprocess.run([sys.executable, "-m", "tests.benchmarks.messages", *arguments], check=True)
                until(lambda: file.exists() and file.read_bytes().count(b"\n") >= count)
                cpu, memory = cpu_seconds(process.pid) - cpu, rss_mib(process.pid)
            lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        finally:
            broker.close()
    numbers = {line["n"] for line in lines}
    return {"us_a_message": 1e6 * cpu / count, "lost": count - len(numbers), "twice": len(lines) - len(numbers),
            "rss_mib": memory}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--publish", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        port, rate, seconds = options.publish
        publish(int(port), int(rate), float(seconds))
        return
    if options.bare:
        bare(int(options.bare[0]), options.bare[1])
        return
    for rate in options.rates:
        figures = {name: measure(name, rate, options.seconds) for name in ("bare", "fsync=always", "fsync=10s")}
        for name, values in figures.items():
            ratio = values["us_a_message"] / figures["bare"]["us_a_message"]
            shown = ", ".join(f"{key} {value:.0f}" for key, value in values.items())
            print(f"{rate:,}/s {name}: {shown}, {ratio:.2f} of bare", flush=True)


if __name__ == "__main__":
    main()
