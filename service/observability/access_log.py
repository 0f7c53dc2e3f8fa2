"""The access log: a line a request, at a tenth of what a record of `logging` costs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import orjson

LONGEST_WRITE = 4096
"""How many bytes go into one write: so many reach a pipe undivided, whichever processes write."""

DELAY_SECONDS = 0.1
"""How long a line may wait for others; so much of the log is lost when the process is killed."""


class LogHandler(logging.StreamHandler[TextIO]):
    """Writes records one by one, and the lines of requests together: writing costs the most.

    Lines that wait are written before a record is, so that they stay in order. Where nobody reads
    any more, lines are lost, and whoever writes them is not told: it is no fault of theirs.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[bytes] = []
        self._length = 0
        self._is_due = False
        self._second = 0
        self._shown_second = ""

    def note(self, fields: Mapping[str, object]) -> None:
        """Write one line in JSON, soon; called on the event loop."""
        line = orjson.dumps({"time": self._now(), "level": "info", **fields}) + b"\n"
        if self._length + len(line) > LONGEST_WRITE:
            self.flush()
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(DELAY_SECONDS, self._write_due)
        self._lines.append(line)
        self._length += len(line)

    def emit(self, record: logging.LogRecord) -> None:
        self.flush()
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handleError(record)

    def flush(self) -> None:
        self.acquire()
        try:
            lines, self._lines, self._length = self._lines, [], 0
            with contextlib.suppress(OSError, ValueError):  # a pipe without a reader; or closed
                if lines:
                    self.stream.write(b"".join(lines).decode())
                super().flush()
        finally:
            self.release()

    def _write_due(self) -> None:
        self._is_due = False
        self.flush()

    def _now(self) -> str:
        """The time as `logging` writes it; all but the milliseconds is made once a second."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._shown_second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._shown_second},{int((now - second) * 1e3):03d}"
