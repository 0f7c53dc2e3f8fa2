"""Request ids and logs: JSON lines, or plain ones on a terminal."""

from __future__ import annotations

import logging
import re
import sys
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar

import orjson
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-id"
ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being answered; it is on every log line and on every response."""

log = logging.getLogger(__name__)


class RequestContext:
    """Pure ASGI middleware: gives each request its id, logs it, and contains its failure."""

    def __init__(self, app: ASGIApp, *, failure: Callable[[], ASGIApp], access_log: bool) -> None:
        self.app = app
        self.failure = failure
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        token = request_id.set(_id_of(scope))
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id.get() or ""
            await send(message)

        try:
            await self.app(scope, receive, tagged)
        except ClientDisconnect:
            log.info("the client went away")
        except Exception:
            log.exception("request failed")
            if not status:
                await self.failure()(scope, receive, tagged)
        finally:
            if self.access_log:
                _log_access(scope, status, time.perf_counter() - began)
            request_id.reset(token)


def _id_of(scope: Scope) -> str:
    """The id that the caller sent, if it is fit for logs, or a new one."""
    for name, value in scope["headers"]:
        if name == HEADER.encode() and ACCEPTABLE_ID.fullmatch(value):
            given: str = value.decode()
            return given
    return uuid.uuid4().hex


def _log_access(scope: Scope, status: int, seconds: float) -> None:
    fields = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "milliseconds": round(seconds * 1e3, 3),
    }
    log.info("request", extra=fields)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class PlainFormatter(logging.Formatter):
    """The same for people: one line of text."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        line = f"{self.formatTime(record)} {record.levelname:7} {record.getMessage()} {fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line.rstrip()


STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def configure_logging(level: str) -> None:
    """Write the process's logs to standard output, uvicorn's own included."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
