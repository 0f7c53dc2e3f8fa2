"""Every error as a gRPC status; only this module knows which status is whose."""

from __future__ import annotations

import logging

from grpc import StatusCode

from gatewave.service import errors
from gatewave.service.observability import metrics
from gatewave.service.observability.logs import request_id

Pair = tuple[str, str]

STATUSES: dict[type[errors.ServiceError], StatusCode] = {
    errors.Overloaded: StatusCode.UNAVAILABLE,
    errors.ClientLimited: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.ModelFailed: StatusCode.INVALID_ARGUMENT,
    errors.ModelRefused: StatusCode.INVALID_ARGUMENT,
    errors.ControlOff: StatusCode.UNIMPLEMENTED,
    errors.KeyMissing: StatusCode.UNAUTHENTICATED,
    errors.ScopeMissing: StatusCode.PERMISSION_DENIED,
    errors.RequestInvalid: StatusCode.INVALID_ARGUMENT,
    errors.BodyMalformed: StatusCode.INVALID_ARGUMENT,
    errors.MediaTypeUnsupported: StatusCode.UNIMPLEMENTED,
    errors.MediaTypeUnacceptable: StatusCode.UNIMPLEMENTED,
    errors.NameUnknown: StatusCode.NOT_FOUND,
    errors.LimitExceeded: StatusCode.INVALID_ARGUMENT,
    errors.BodyTooLong: StatusCode.RESOURCE_EXHAUSTED,
    errors.BodyLate: StatusCode.DEADLINE_EXCEEDED,
    errors.UrlTooLong: StatusCode.RESOURCE_EXHAUSTED,
    errors.HeadTooLong: StatusCode.RESOURCE_EXHAUSTED,
    errors.HttpMalformed: StatusCode.INVALID_ARGUMENT,
    errors.HttpUnsupported: StatusCode.UNIMPLEMENTED,
    errors.HttpVersionUnsupported: StatusCode.UNIMPLEMENTED,
}

LONGEST_DETAIL = 1024
"""In characters: the text travels in a header, which clients bound at 8 KiB, percent-encoded."""

PUSHBACK = "grpc-retry-pushback-ms"
"""When to try again, as gRPC clients with a retry policy read it."""
LOADING_PUSHBACK = "1000"

log = logging.getLogger(__name__)


def explained(error: Exception) -> tuple[StatusCode, str]:
    """What the caller hears of ``error``; of a failure of ours, only where it is logged."""
    status = STATUSES.get(type(error)) if isinstance(error, errors.ServiceError) else None
    if status is None or not isinstance(error, errors.ServiceError):
        log.error("request failed", exc_info=error)
        detail = f"the failure is ours, and logged under the request id {request_id.get()}"
        return StatusCode.INTERNAL, detail
    metrics.count_rejection(error)
    errors.strip(error)
    return status, errors.abridged(str(error), LONGEST_DETAIL)


def metadata(error: Exception) -> tuple[Pair, ...]:
    """What is said of ``error`` besides."""
    if isinstance(error, errors.Overloaded):
        return ((PUSHBACK, str(error.retry_after * 1000)),)
    if isinstance(error, errors.ModelNotReady) and error.is_loading:
        return ((PUSHBACK, LOADING_PUSHBACK),)
    return ()
