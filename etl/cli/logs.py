"""The log on stderr: text for people, or one JSON object per line for programs."""

import logging
import os

import orjson

from etl.readings.times import rfc3339

CODES = ("event", "source", "reason")
"""Attributes of a record, from `extra`, that are fields of the JSON object: those of the event that it tells of."""
FORMAT_VARIABLE = "ETL_LOG_FORMAT"
"""The environment variable by which a process that logs JSON lets its children, which share its stderr, do the same."""


def log_to_stderr(log_format: str) -> None:
    """Configure the root logger to write to stderr, as text or, for the format "json" or below such a process, JSON."""
    if log_format == "json":
        os.environ[FORMAT_VARIABLE] = "json"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if os.environ.get(FORMAT_VARIABLE) == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Json())
    for noisy in ("apscheduler", "waitress", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": rfc3339(record.created), "level": record.levelname, "message": record.getMessage()}
        line |= {key: code for key in CODES if isinstance(code := getattr(record, key, None), str)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        # A lone surrogate, as in a file name that is not UTF-8, is escaped: orjson would refuse the line.
        escaped = {key: text.encode(errors="backslashreplace").decode() for key, text in line.items()}
        return orjson.dumps(escaped).decode()
