"""A file that grows by lines, followed whatever its writer does: rotate, cut, rewrite or copy it."""

import errno
import os
import stat
from io import FileIO
from itertools import islice
from pathlib import Path

from etl.readings.lines import BEFORE_BYTES, is_at, lines_with_positions, position_at
from etl.readings.records import START, Answer, Position, RejectedError, Restart
from etl.sources.contract import Content

MAX_LINE_BYTES = 5 << 20
"""Size limit of a line, and of the block of lines that a poll reads; the next polls read the others."""
MAX_LINES = 20_000
"""Lines of one poll: they take about half a second of the processor on their way to the folder."""
MAX_BLOCKS = 50
"""Blocks of longer lines that a poll skips, at most: 250 MiB, in a fraction of a second."""


class FollowedFile:
    """Reads each line that is appended to a file once.

    The content before the position tells whether a file is the one that was read so far, or a longer copy of it. The
    file stays open: renamed, it is read to its end. Its writer has left it once the next file has content.
    """

    def __init__(self, path: Path, position: Position) -> None:
        self._path = path
        self._position = position
        self._is_in_long_line = False
        self._file: FileIO | None = None

    def __del__(self) -> None:
        """Close the file; no earlier, because a thread may still read it when a reload drops this object."""
        self._close()

    def read(self) -> Content:
        """The lines appended since the last call, each with the position after it.

        Raises:
            OSError: there is nothing to read.

        """
        content = Content()
        try:
            self._follow(content)
        except OSError:
            if content == Content():
                raise
        return content

    def next_bytes(self) -> int:
        """How many bytes the next `read` takes, at most, if no file was cut; OSError if there is none to read."""
        sizes = []
        if self._file:
            sizes.append(os.fstat(self._file.fileno()).st_size - self._position.offset)
        try:
            named = self._path.stat()
            if not self._file or not os.path.samestat(named, os.fstat(self._file.fileno())):
                sizes.append(named.st_size - (0 if self._file else self._position.offset))
        except OSError:
            if not self._file:
                raise
        return sum(min(MAX_LINE_BYTES, max(0, size)) for size in sizes)

    def _follow(self, content: Content) -> None:
        file = self._file
        if file is None:
            file = self._file = self._open_first(content)
        else:
            try:
                is_replaced = self._is_replaced(file)
            except OSError:
                self._read_lines(file, content)
                raise
            if not self._read_lines(file, content) or not is_replaced:
                return
            file = self._file = self._open_next(file, content)
        self._read_lines(file, content)

    def _is_replaced(self, file: FileIO) -> bool:
        """Whether the path leads to another file with content; asked before the last lines of this one are read."""
        named = self._path.stat()
        return named.st_size > 0 and not os.path.samestat(named, os.fstat(file.fileno()))

    def _open_first(self, content: Content) -> FileIO:
        """Open the file at the path where the file read before is not open: after a start, or an error."""
        file = open_source_file(self._path)
        before, size = self._block(file, 0)
        if not is_at(self._position, before):
            reason = "cut" if len(before) < size else "replaced"
            self._start_over(content, reason, f"the file was {reason} while nothing followed it; {self._lost}")
        elif self._position.before is None:
            self._position = position_at(before, size, self._position.offset - size)
        return file

    def _open_next(self, file: FileIO, content: Content) -> FileIO:
        """Open the file that has the path of this one, which was read to its end; continue there if it is a copy."""
        following = open_source_file(self._path)
        rest, begin = self._block(file, MAX_LINE_BYTES)
        if self._block(following, len(rest) - begin)[0] != rest:
            self._read_lines(file, content, is_complete=True)
            self._start_over(content, "replaced", "the file was replaced; the old one was read to its end")
        file.close()
        return following

    def _read_lines(self, file: FileIO, content: Content, is_complete: bool = False) -> bool:
        """Add the next lines, of a file that `is_complete` an unfinished last one too; whether its end was reached."""
        for _ in range(MAX_BLOCKS):
            data, begin = self._block(file, MAX_LINE_BYTES)
            if not is_at(self._position, data[:begin]):
                self._start_over(content, "cut", f"the file was cut; {self._lost}")
                continue
            is_end = len(data) - begin < MAX_LINE_BYTES
            if self._is_in_long_line:
                end = data.find(b"\n", begin) + 1
                self._is_in_long_line = not end
                self._advance(data, begin, end or len(data))
                if is_end and not end:
                    return True
            elif is_end or data.find(b"\n", begin) >= 0:
                added = self._add_lines(content, data, begin, is_complete=is_complete and is_end)
                return is_end and added < MAX_LINES
            else:
                limit = f"{MAX_LINE_BYTES >> 20} MiB"
                why = f"the line after byte {self._position.offset:,} is longer than {limit}, and is skipped"
                content.rejections.append(RejectedError("too_large", why))
                self._is_in_long_line = True
        return False

    def _add_lines(self, content: Content, data: bytes, begin: int, *, is_complete: bool) -> int:
        """Add up to MAX_LINES lines; how many there were, with empty ones."""
        positioned = lines_with_positions(data, begin, self._position.offset - begin, is_complete)
        lines = list(islice(positioned, MAX_LINES))
        content.answers += [Answer(line, position) for line, position in lines if line.strip()]
        if lines:
            self._position = lines[-1][1]
        return len(lines)

    def _advance(self, data: bytes, begin: int, end: int) -> None:
        self._position = position_at(data, end, self._position.offset - begin)

    def _start_over(self, content: Content, reason: str, why: str) -> None:
        content.restarts.append(Restart(reason, why))
        self._position, self._is_in_long_line = START, False

    @property
    def _lost(self) -> str:
        return f"lines of it after byte {self._position.offset:,} that were not read are lost"

    def _block(self, file: FileIO, size: int) -> tuple[bytes, int]:
        """Up to `size` bytes after the position, behind those that identify it; and the index of the position."""
        begin = min(self._position.offset, BEFORE_BYTES)
        try:
            return os.pread(file.fileno(), begin + size, self._position.offset - begin), begin
        except OSError:  # such as a network drive that was mounted again: the next poll opens the file again
            self._close()
            raise

    def _close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def open_source_file(path: Path) -> FileIO:
    """Open a file for reading; OSError if it is something else, such as a pipe, which would block the thread."""
    file = FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file
