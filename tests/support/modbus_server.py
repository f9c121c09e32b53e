"""The Modbus TCP server of pymodbus on each port, 0 for any: `python -m tests.support.modbus_server PORT...`."""

from __future__ import annotations

import asyncio
import logging
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

UNITS = (1, 2, 3)


def unit(number: int) -> SimDevice:
    """A unit with the registers of tests/support/modbus.py, and no other."""
    coils = [SimData(3, values=[True], datatype=DataType.BITS)]
    discrete = [SimData(7, values=[False], datatype=DataType.BITS)]
    holding = [SimData(place, values=value, datatype=DataType.REGISTERS) for place, value in ((10, 1), (100, 231))]
    inputs = [SimData(4, values=1200.5, datatype=DataType.FLOAT32)]
    return SimDevice(number, simdata=(coils, discrete, holding, inputs))


async def serve(ports: list[int]) -> None:
    """Serve until the process is killed; a line on stdout has the ports once all listen."""
    taken = []
    for port in ports:
        server = ModbusTcpServer([unit(number) for number in UNITS], address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        taken.append(server.transport.sockets[0].getsockname()[1])
    print(*taken, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable()
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))
