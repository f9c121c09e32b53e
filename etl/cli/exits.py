"""Exit codes, and the error that ends a command with one of them."""

OK = 0
PROBLEM = 1
USAGE = 2
UNAVAILABLE = 69
CANNOT_CREATE = 73
IO_ERROR = 74
HELD = 75
BAD_CONFIG = 78
INTERRUPTED = 130
"""From sysexits.h where it has one."""


class ExitError(Exception):
    """The command cannot go on: a message for people, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
