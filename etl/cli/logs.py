"""The log on stderr: text for people, or a JSON object a line for machines."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import orjson

from etl.readings.times import rfc3339

Format = Literal["text", "json"]


def log_to_stderr(form: Format) -> None:
    """Write the log to stderr from now on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if form == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Json())
    for noisy in ("apscheduler", "waitress", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": rfc3339(record.created), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # What has no place in UTF-8, such as half a character in a file's name, is escaped: a line is always written.
        return orjson.dumps(
            {key: text.encode(errors="backslashreplace").decode() for key, text in line.items()}
        ).decode()
