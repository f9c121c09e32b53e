"""Machines to poll at little cost: one process that answers every GET with a reading, on one port or on many.

A path that begins with /hang gets no answer; a path that begins with /garbage gets an answer that is not JSON; one that
ends with /metrics gets a page for Prometheus. /count has the number of answers so far.

python -m tests.benchmarks.target [--ports 1] [--hosts 1]   prints the first port; the others follow it

Hosts are 127.0.0.1, 127.0.0.2 and so on.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource

BODY = (
    b'{"description":"Machine for processing ","fan_speed":%.2f,"id":1,"name":"DELL G450","status":"COMPLETED",'
    b'"temperature":%.2f,"timestamp":"2026-11-22T10:00:00+00:00"}'
)


class Machine(asyncio.Protocol):
    """Answers each request as soon as its head is complete; connections are kept."""

    answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:
        self.head += data
        while b"\r\n\r\n" in self.head:
            head, self.head = self.head.split(b"\r\n\r\n", 1)
            if head.startswith(b"GET /hang"):
                continue
            body = BODY % (random.uniform(600, 700), random.uniform(40, 50))
            if head.startswith(b"GET /garbage"):
                body = b"<html>busy</html>"
            if b"/metrics " in head[:100]:
                body = b"temperature %.2f\nfan_speed %.2f\n" % (random.uniform(40, 50), random.uniform(600, 700))
            if head.startswith(b"GET /count"):
                body = b"%d" % Machine.answered
            else:
                Machine.answered += 1
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )


async def serve(ports: int, hosts: int) -> None:
    loop = asyncio.get_running_loop()
    first = random.randint(10_000, 32_000 - ports)
    for port in range(first, first + ports):
        await loop.create_server(Machine, [f"127.0.0.{1 + host}" for host in range(hosts)], port, backlog=4096)
    print(first, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ports", type=int, default=1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    options.add_argument("--hosts", type=int, default=1)
    arguments = options.parse_args()
    asyncio.run(serve(arguments.ports, arguments.hosts))
