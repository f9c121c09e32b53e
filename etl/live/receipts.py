"""Polls that a transport wants to know the end of: their receipts, given back once their raw lines are written."""

from collections import deque

from etl.readings.records import Poll, Receipt


class Receipts:
    """Counts raw lines into the writer's queue and out of it: they leave it in the order they came.

    The leases of polls are kept with their receipts, so that what a broker sends while the disk is stuck stays counted.
    """

    def __init__(self) -> None:
        self._put = 0
        self._written = 0
        self._waiting: deque[tuple[int, Receipt, object]] = deque()

    def expect(self, poll: Poll, ahead: int) -> None:
        """The last line of this poll is the one that is put after `ahead` - 1 others, or it has none."""
        if poll.receipt:
            self._waiting.append((self._put + ahead, poll.receipt, poll.lease))

    def put(self, lines: int) -> None:
        """So many lines were queued."""
        self._put += lines

    def wrote(self, lines: int) -> None:
        """So many lines are written; with 0, polls without lines are done if all lines before them are."""
        self._written += lines
        while self._waiting and self._waiting[0][0] <= self._written:
            self._waiting.popleft()[1].written()
