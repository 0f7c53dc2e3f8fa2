"""Access log: one line for each HTTP request, at a tenth of the cost of a `logging` record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from gatewave.service.observability.logs import BufferedHandler, JsonFormatter, trace_fields
from gatewave.service.observability.request_ids import request_id

MAX_LOGGED_PATH = 256
MAX_LOGGED_METHOD = 32
"""Most characters of a path and of a method that are logged."""

LogRequest = Callable[[str, str, str, int, float], None]
"""Writes the line of a request: its id, method, path, status and duration in seconds."""

log = logging.getLogger(__name__)


def access_logger(*, enabled: bool) -> LogRequest | None:
    """Return a function that writes the access log; None if there is no access log."""
    if not enabled or not log.isEnabledFor(logging.INFO):
        return None
    for handler in logging.getLogger().handlers:
        if isinstance(handler, BufferedHandler) and isinstance(handler.formatter, JsonFormatter):
            return partial(_write_line, handler)
    return _write_record


def shortened(text: str, longest: int = MAX_LOGGED_PATH) -> str:
    """Return ``text``, cut to ``longest`` characters and an ellipsis."""
    return text if len(text) <= longest else f"{text[:longest]}…"


def _write_line(  # noqa: PLR0917 - as `LogRequest`
    handler: BufferedHandler, identity: str, method: str, path: str, status: int, seconds: float
) -> None:
    known = {"logger": log.name, "message": "request", "request_id": identity, **trace_fields()}
    handler.note(known | _fields(method, path, status, seconds))


def _write_record(identity: str, method: str, path: str, status: int, seconds: float) -> None:
    token = request_id.set(identity)
    log.info("request", extra=_fields(method, path, status, seconds))
    request_id.reset(token)


def _fields(method: str, path: str, status: int, seconds: float) -> dict[str, object]:
    return {
        "method": shortened(method, MAX_LOGGED_METHOD),
        "path": shortened(path),
        "status": status,
        "milliseconds": round(seconds * 1e3, 3),
    }
