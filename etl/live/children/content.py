"""What a child answered, in an unnamed temporary file: it takes no memory of this process, whatever its size."""

import io
import os
from tempfile import TemporaryFile, gettempdir
from typing import Any, Self
from weakref import finalize

import msgspec

from etl.nightly.on_demand.orders import PageHead

MAX_HEAD_BYTES = 4096
"""The first line of an answer, which has no more than a sentence and a few numbers."""
MAX_ANSWER_BYTES = 512 << 20
"""A longer answer is not taken: it would fill the directory for temporary files, which may be memory."""


class Content:
    """The head of an answer, and its parts. The file disappears with this object and the parts that were opened."""

    def __init__(self) -> None:
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115  closed by the finalizer
        finalize(self, self._file.close)
        self.head = PageHead()
        self._starts: list[int] = []

    def append(self, data: bytes) -> None:
        """Add bytes as they come from the child; ChildProcessError beyond MAX_ANSWER_BYTES.

        An OSError names the directory for temporary files.
        """
        if self._file.tell() + len(data) > MAX_ANSWER_BYTES:
            raise ChildProcessError(f"This is longer than {MAX_ANSWER_BYTES >> 20} MiB")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{gettempdir()} (TMPDIR)") from error

    def finish(self) -> Self:
        """Read the head; ValueError if the answer is not complete."""
        line, newline, _ = os.pread(self._file.fileno(), MAX_HEAD_BYTES, 0).partition(b"\n")
        self.head = msgspec.json.decode(line, type=PageHead)
        start = len(line) + len(newline)
        for size in self.head.sizes:
            self._starts.append(start)
            start += size
        if self._file.tell() != start:
            raise ValueError(f"the answer has {self._file.tell()} bytes, not {start}")
        return self

    def part(self, number: int) -> "Part":
        """Open one of the parts, as often as needed; the caller closes it."""
        return Part(os.dup(self._file.fileno()), self._starts[number], self.head.sizes[number])


class Part(io.RawIOBase):
    """A range of a file, with a position of its own; it owns the descriptor."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size = descriptor, start, size
        self._position = 0
        self._finalize = finalize(self, os.close, descriptor)

    def __len__(self) -> int:
        return self._size

    def close(self) -> None:
        """Close the descriptor."""
        self._finalize()
        super().close()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        view = memoryview(buffer)[: max(0, self._size - self._position)]
        size = os.preadv(self._descriptor, [view], self._start + self._position) if view else 0
        self._position += size
        return size

    def tell(self) -> int:
        """The position, from the start of the range."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position
