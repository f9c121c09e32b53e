"""A connection to a Modbus TCP device or gateway: one request at a time, framed and decoded by pymodbus."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from etl.sources.modbus.registers import Block

REQUESTS: dict[str, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
"""The request that reads a table."""
EXCEPTIONS = {
    1: "IllegalFunction",
    2: "IllegalDataAddress",
    3: "IllegalDataValue",
    4: "ServerDeviceFailure",
    5: "Acknowledge",
    6: "ServerDeviceBusy",
    7: "NegativeAcknowledge",
    8: "MemoryParityError",
    10: "GatewayPathUnavailable",
    11: "GatewayTargetDeviceFailedToRespond",
}
"""The exceptions of the protocol by their codes."""
MAX_TRANSACTION = 65_535
MAX_FRAME_LENGTH = 254
"""Bytes of a frame behind its length, at most: unit, function and 252 bytes of data."""
_HEADER_BYTES = 6


class ProtocolError(Exception):
    """An answer that is not Modbus TCP, or not one to the request."""


class ExceptionAnswerError(Exception):
    """A unit answers the read of a place with an exception, by its name."""

    def __init__(self, code: int, place: str) -> None:
        super().__init__(f"{EXCEPTIONS.get(code, f'exception {code}')} for {place}")
        self.is_about_address = code in (2, 3)
        """Whether it may be due to what was read together: an address, or how many."""


class Connection(asyncio.Protocol):
    """Reads blocks of registers over one connection, and belongs to the thread of its event loop.

    pymodbus' own clients are not used: they leave a request waiting when its connection is lost, and do not say why a
    connection could not be made.
    """

    def __init__(self) -> None:
        self._framer = FramerSocket(DecodePDU(is_server=False))
        self._transport: asyncio.Transport | None = None
        self._request: ModbusPDU = ModbusPDU()
        self._answer: asyncio.Future[ModbusPDU] | None = None
        self._received = b""
        self._transaction = 0

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None

    async def read(self, unit: int, block: Block) -> Sequence[int]:
        """The contents of a block.

        A late answer to an earlier request is recognized by its transaction number and dropped.

        Raises:
            ConnectionError: the connection is lost.
            ExceptionAnswerError: the unit refuses.
            ProtocolError: what came is no answer to the request; if it is not Modbus TCP, the connection is closed.

        """
        if self._transport is None:
            raise ConnectionResetError
        self._transaction = self._transaction % MAX_TRANSACTION + 1
        self._request = REQUESTS[block.table](
            dev_id=unit, transaction_id=self._transaction, address=block.address, count=block.size
        )
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(self._framer.buildFrame(self._request))
        try:
            answer = await self._answer
        finally:
            self._answer = None
        if isinstance(answer, ExceptionResponse):
            raise ExceptionAnswerError(answer.exception_code, block.place)
        contents = answer.bits if block.table in ("coil", "discrete") else answer.registers
        if len(contents) < block.size:
            raise ProtocolError(f"it has {len(contents)} values, not {block.size}")
        return contents

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection; called by asyncio."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP connection has no other
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """End the request in flight; called by asyncio."""
        self._transport = None
        self._fail(error if isinstance(error, ConnectionError) else ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Take the answer once it is complete; called by asyncio."""
        self._received += data
        while len(self._received) >= _HEADER_BYTES:
            length = int.from_bytes(self._received[4:6], "big")
            if self._received[2:4] != b"\0\0" or not 2 <= length <= MAX_FRAME_LENGTH:
                self._fail(ProtocolError("its header is not that of Modbus TCP"))
                self.abort()
                return
            end = _HEADER_BYTES + length
            if len(self._received) < end:
                return
            frame, self._received = self._received[:end], self._received[end:]
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        """Take a frame, if it is the answer to the request in flight."""
        if int.from_bytes(frame[:2], "big") != self._transaction or self._answer is None or self._answer.done():
            return
        try:
            _, answer = self._framer.handleFrame(frame, self._request.dev_id, self._transaction)
        except ModbusException:
            self._fail(ProtocolError("it cannot be decoded"))
            return
        if answer is None:
            self._fail(ProtocolError("it is of another unit"))
        elif answer.function_code & 0x7F != self._request.function_code:
            self._fail(ProtocolError("it is of another function"))
        else:
            self._answer.set_result(answer)

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)
