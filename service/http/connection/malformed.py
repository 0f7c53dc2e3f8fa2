"""Answers to malformed requests, and to those that exceed a limit on heads.

A malformed request goes to the application too, in its turn and as the last one of its connection.
The error stands in its scope (`REFUSED`): all errors are answered in one place.
"""

from __future__ import annotations

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gatewave.service.errors import (
    HttpMalformed,
    HttpUnsupported,
    HttpVersionUnsupported,
    ServiceError,
)
from gatewave.service.http.connection.head import Headers
from gatewave.service.quoting import Words

REFUSED = "gatewave.refused"
"""Key of a scope: the error of a malformed request, which the application answers."""

UNKNOWN = "-"
"""Method and path of a malformed request that does not begin with them."""

MAX_PATH_BYTES = 1024
"""Longest path of a malformed request that is passed to the application, and logged."""

VERSION_MESSAGES = frozenset({"Invalid HTTP version", "Pause on PRI/Upgrade"})
"""Messages of llhttp 9.4 for an unknown version, and for the preface of HTTP/2."""

ENCODING_MESSAGES = frozenset({"Invalid `Transfer-Encoding` header value"})
"""Message of llhttp 9.4 for a second coding after ``chunked``. `on_header` does not get that
field."""


def error_of(raised: Exception) -> Exception:
    """Return the error to answer, for an exception that `HttpRequestParser.feed_data` raised."""
    if isinstance(raised, httptools.HttpParserCallbackError):
        ours = raised.__context__
        return ours if isinstance(ours, Exception) else raised
    if isinstance(raised, ServiceError):
        return raised
    if str(raised) in VERSION_MESSAGES:
        return HttpVersionUnsupported.at("version", "HTTP/1.1", Words("another"))
    if str(raised) in ENCODING_MESSAGES:
        return HttpUnsupported.at("Transfer-Encoding", "chunked", Words("another"))
    return HttpMalformed.at("request", "HTTP/1.1", Words(raised))


def answer_error(connection: HttpToolsProtocol, error: Exception) -> None:
    """Have the application answer the request that is read last with ``error``.

    uvicorn gets a complete request for ``/``, because it could not parse a malformed URL. The
    application sees the real path and method, as far as they were parsed.
    """
    path = connection.url[:MAX_PATH_BYTES].partition(b"?")[0]
    before: Any = connection.scope
    headers: Headers = [] if before is None else before["headers"]
    # The application may have the present scope already, and may have changed it.
    HttpToolsProtocol.on_message_begin(connection)
    scope: Any = connection.scope
    scope[REFUSED] = error
    connection.headers += headers
    connection.url = b"/"
    HttpToolsProtocol.on_headers_complete(connection)
    HttpToolsProtocol.on_message_complete(connection)
    connection.cycle.keep_alive = False
    scope["path"] = path.decode("latin-1") or UNKNOWN
    if not path:
        scope["method"] = UNKNOWN


def end_last(connection: HttpToolsProtocol, error: Exception) -> bool:
    """End ``connection`` after its last request, which the application has, or had.

    If the rest of that request is malformed, and its answer has not begun, it is answered with
    ``error``. Return True if the connection is to be closed now.
    """
    cycle: RequestResponseCycle | None = connection.cycle
    if cycle is None or cycle.response_complete:
        return True
    if not cycle.more_body:  # The request is complete; the bytes after it are malformed.
        cycle.keep_alive = False
        return False
    if cycle.response_started:
        return True
    _retract(connection, cycle)
    answer_error(connection, error)
    return False


def _retract(connection: HttpToolsProtocol, cycle: RequestResponseCycle) -> None:
    """Take back a request that the application has, or that waits for its turn."""
    if connection.pipeline and connection.pipeline[0][0] is cycle:
        connection.pipeline.popleft()
    else:
        cycle.disconnected = True
        cycle.message_event.set()
        connection.cycle = None  # type: ignore[assignment]  # as at first
