"""Requests as operators see them: ids, times, traces, and logs, in JSON or plain on a terminal."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from http import HTTPStatus

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatewave.service.observability import metrics
from gatewave.service.observability.access_log import LogHandler
from gatewave.service.observability.tracing.trace import Trace, Tracer, current

HEADER = "x-request-id"
HEADER_BYTES = HEADER.encode()
ROUTE = "gatewave.route"
"""Where the scope of a request that takes no route of FastAPI's names the template all the same."""

LONGEST_PATH = 256
LONGEST_METHOD = 32
"""Characters of a path and of a method that are logged."""

ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

_PROCESS = secrets.token_hex(10)
_NUMBERS = itertools.count(1)
"""A request's id is its process's and its own number: a random one takes ten times as long."""

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being answered; it is on every log line and on every response."""

log = logging.getLogger(__name__)


class RequestContext:
    """Pure ASGI middleware: gives each request its id, watches it, and contains its failure."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        failure: Callable[[str], ASGIApp],
        access_log: bool,
        tracer: Tracer | None = None,
    ) -> None:
        self.app = app
        self.failure = failure
        self.notes = notes_on(access_log=access_log)
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        identity = identity_of(dict(scope["headers"]).get(HEADER_BYTES))
        token = request_id.set(identity)
        trace = self._trace(scope)
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER_BYTES, identity.encode())]
            await send(message)

        try:
            await self.app(scope, receive, tagged)
        except ClientDisconnect:
            log.info("the client went away")
        except Exception:
            log.exception("request failed")
            if not status:
                await self.failure(scope["path"])(scope, receive, tagged)
        finally:
            self._tell(scope, identity, status, time.perf_counter() - began, trace)
            request_id.reset(token)

    def _trace(self, scope: Scope) -> Trace | None:
        if self.tracer is None:
            return None
        return self.tracer.begin(_span_method(scope["method"]), scope["headers"])

    def _tell(
        self, scope: Scope, identity: str, status: int, seconds: float, trace: Trace | None
    ) -> None:
        """Log, count, time and trace what became of a request."""
        if self.notes is not None:
            self.notes(identity, scope["method"], scope["path"], status, seconds)
        route = _route(scope)
        metrics.observe_http(route, scope["method"], status, seconds)
        if trace is not None:
            _end(trace, scope, route, status)


def identity_of(given: bytes | None) -> str:
    """The id of a request: what the caller sent, if it is fit for logs, or a new one."""
    if given is not None and ACCEPTABLE_ID.fullmatch(given):
        return given.decode()
    return f"{_PROCESS}{next(_NUMBERS):012x}"


def _route(scope: Scope) -> str:
    """The template of the route that took the request: never its path, of which there is no end."""
    route = scope.get("route")
    if route is not None:
        template: str = route.path
        return template
    if ROUTE in scope:
        shortcut: str = scope[ROUTE]
        return shortcut
    # What is no route of FastAPI's is a folder of files, or the OpenAPI document.
    return scope["root_path"] or "/openapi.json" if "endpoint" in scope else metrics.UNMATCHED


def _end(trace: Trace, scope: Scope, route: str, status: int) -> None:
    """End the trace with the attributes that OpenTelemetry gives to HTTP's servers."""
    method = metrics.method_label(scope["method"], other="_OTHER")
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "url.path": shortened(scope["path"]),
        "url.scheme": scope["scheme"],
        "gatewave.request_id": request_id.get() or "",
    }
    if status:
        attributes["http.response.status_code"] = status
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    name = f"{_span_method(scope['method'])} {route}"
    trace.end(name, failed=failed, attributes=attributes)


def _span_method(method: str) -> str:
    """Return the method for a span name: OpenTelemetry's HTTP conventions, section Name."""
    return metrics.method_label(method, other="HTTP")


Notes = Callable[[str, str, str, int, float], None]
"""Writes a line about a request: its id, method, path, status, and how many seconds it took."""


def notes_on(*, access_log: bool) -> Notes | None:
    """What writes the access log, if there is one: cheaply, or as any record is written."""
    if not access_log or not log.isEnabledFor(logging.INFO):
        return None
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler) and isinstance(handler.formatter, JsonFormatter):
            return partial(_note, handler)
    return _record


def _note(  # noqa: PLR0917 - as `Notes`
    handler: LogHandler, identity: str, method: str, path: str, status: int, seconds: float
) -> None:
    known = {"logger": log.name, "message": "request", "request_id": identity, **_trace()}
    handler.note(known | _line(method, path, status, seconds))


def _record(identity: str, method: str, path: str, status: int, seconds: float) -> None:
    token = request_id.set(identity)
    log.info("request", extra=_line(method, path, status, seconds))
    request_id.reset(token)


def _line(method: str, path: str, status: int, seconds: float) -> dict[str, object]:
    return {
        "method": shortened(method, LONGEST_METHOD),
        "path": shortened(path),
        "status": status,
        "milliseconds": round(seconds * 1e3, 3),
    }


def shortened(text: str, longest: int = LONGEST_PATH) -> str:
    """Return ``text``, cut to ``longest`` characters and an ellipsis."""
    return text if len(text) <= longest else f"{text[:longest]}…"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, and the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            **_trace(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class PlainFormatter(logging.Formatter):
    """The same for people: one line of text, in which callers cannot move the cursor."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        said = f"{record.getMessage()} {fields}".rstrip()
        line = f"{self.formatTime(record)} {record.levelname:7} {_printable(said)}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line = "\n".join([line, *map(_printable, lines)])
        return line


def _printable(text: str) -> str:
    """``text`` with all that a terminal would not show, or obey, as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _trace() -> dict[str, str]:
    """The id of the trace, where requests are traced."""
    trace = current.get()
    return {} if trace is None else {"trace_id": trace.trace_id}


STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


def configure_logging(level: str) -> None:
    """Write the process's logs to standard output, uvicorn's own included."""
    handler = LogHandler(sys.stdout)
    handler.setFormatter(PlainFormatter() if sys.stdout.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
