"""`file`: a JSON file of this machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from etl.config.sources.base import JsonSource, Mistake

LINE_SUFFIXES = {".ndjson", ".ldjson", ".jsonlines", ".log", ".csv", ".gz"}
"""Endings of files that are not one JSON document; only .jsonl is followed."""


class FileSource(JsonSource, frozen=True, kw_only=True):
    """A machine that writes its readings to a file."""

    key = "file"
    label = "a JSON file"
    no_answer = "no complete line in the file yet"
    hints = JsonSource.hints | {"file": "write the path of a JSON file, absolute or from the config's folder"}
    paths = ("file",)
    has_deadline = False

    file: Annotated[str, Meta(min_length=1)]

    @property
    def advice(self) -> dict[str, str]:
        """What to do about a failed poll."""
        return {
            "no_file": "check the path; a relative one starts at the folder of the config",
            "file": "check the path, its owner and its mode",
        }

    @property
    def is_followed(self) -> bool:
        """Whether the file grows by lines, each of which is an answer."""
        return Path(self.file).suffix == ".jsonl"

    @property
    def always_sends(self) -> bool:
        """Whether each poll without failure has a reading; a followed file may have no new line."""
        return self.records is None and not self.is_followed

    def warnings(self, folder: Path, output: Path) -> Iterator[Mistake]:
        """What `etl check` warns of: a folder, another format, our own output."""
        file, path = folder / self.file, ("file",)
        if self.timeout:
            yield Mistake(("timeout",), "timeout has no effect on a file", "leave it out")
        if os.path.exists(file) and not os.path.isfile(file):
            yield Mistake(path, f"file {file} is not a file", "write the path of a JSON file, not of a folder")
        if file.suffix in LINE_SUFFIXES:
            hint = "name it .jsonl if it has a JSON object on each line"
            yield Mistake(path, f"file {file} is read as one JSON document, not followed", hint)
        if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(output)):  # resolve() fails at circular links
            message = f"file {file} is in the output folder, so that readings would be read again"
            yield Mistake(path, message, "name the machine's own file")
