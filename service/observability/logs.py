"""Log of the process: one line for each record, in JSON, or plain on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import orjson

from gatewave.service.observability.request_ids import request_id
from gatewave.service.observability.tracing.trace import current

MAX_WRITE = 4096
"""Most bytes in one write: POSIX writes that many to a pipe undivided (PIPE_BUF), so lines of
several processes do not mix."""

DELAY_SECONDS = 0.1
"""Longest time for which a line of the access log waits for others. A killed process loses the
lines of that time."""

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""Attributes of records that are not extra fields; ``color_message`` is uvicorn's."""


class BufferedHandler(logging.StreamHandler[TextIO]):
    """Handler that writes records at once, and lines of the access log in groups.

    One write for each request would be the largest part of the log's cost. Waiting lines are
    written before a record is, so the order is kept. Lines are lost if the reader of the stream is
    gone; requests do not fail for that.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[bytes] = []
        self._length = 0
        self._is_due = False
        self._second = 0
        self._shown_second = ""

    def note(self, fields: Mapping[str, object]) -> None:
        """Write one line in JSON within `DELAY_SECONDS`; called on the event loop."""
        line = orjson.dumps({"time": self._now(), "level": "info", **fields}) + b"\n"
        if self._length + len(line) > MAX_WRITE:
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
            # OSError: a pipe without a reader. ValueError: a closed stream.
            with contextlib.suppress(OSError, ValueError):
                if lines:
                    self.stream.write(b"".join(lines).decode())
                super().flush()
        finally:
            self.release()

    def _write_due(self) -> None:
        self._is_due = False
        self.flush()

    def _now(self) -> str:
        """Return the time as `logging` formats it. The text of a second is reused within it."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._shown_second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._shown_second},{int((now - second) * 1e3):03d}"


class JsonFormatter(logging.Formatter):
    """One JSON object for each record, with the request id and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **trace_fields(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class PlainFormatter(logging.Formatter):
    """One line of text for each record; control characters of callers are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        message = f"{record.getMessage()} {fields}".rstrip()
        line = f"{self.formatTime(record)} {record.levelname:7} {_printable(message)}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line = "\n".join([line, *map(_printable, lines)])
        return line


def trace_fields() -> dict[str, str]:
    """Return the id of the current trace, if requests are traced."""
    trace = current.get()
    return {} if trace is None else {"trace_id": trace.trace_id}


def configure_logging(level: str) -> None:
    """Write the logs of the process, uvicorn's included, to standard output."""
    handler = BufferedHandler(sys.stdout)
    handler.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _printable(text: str) -> str:
    """Return ``text`` with escapes for characters that a terminal hides or obeys."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}
