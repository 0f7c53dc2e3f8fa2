"""Error answers over gRPC; the error classes declare their codes (`gatewave.service.errors`)."""

from __future__ import annotations

import logging

from grpc import StatusCode

from gatewave.service.errors import ServiceError
from gatewave.service.observability import metrics
from gatewave.service.observability.request_ids import request_id
from gatewave.service.quoting import abridged
from gatewave.service.system.tracebacks import strip

Pair = tuple[str, str]

MAX_DETAIL = 1024
"""Longest text in characters. It travels in a header, percent-encoded, and clients limit headers to
8 KiB."""

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailer with the delay in milliseconds after which clients with a retry policy retry."""

log = logging.getLogger(__name__)


def explained(error: Exception) -> tuple[StatusCode, str]:
    """Count or log ``error``, and return the status and the text that the caller receives."""
    if not isinstance(error, ServiceError) or error.is_internal:
        log.error("request failed", exc_info=error)
        identity = request_id.get()
        detail = f"The service failed. Its log has the reason under the request id {identity}."
        return StatusCode.INTERNAL, detail
    metrics.count_rejection(error)
    strip(error)
    return StatusCode[error.grpc_code], abridged(str(error), MAX_DETAIL)


def metadata(error: Exception) -> tuple[Pair, ...]:
    """Return the trailers that supplement the status of ``error``."""
    if isinstance(error, ServiceError) and error.is_retried and error.retry_after is not None:
        return ((PUSHBACK, str(error.retry_after * 1000)),)
    return ()
