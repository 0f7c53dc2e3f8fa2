"""Every error as RFC 9457 problem details; only this module knows which status is whose.

Types are URNs, ``urn:gatewave:problem:…``, so that programs can tell problems apart by them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service import errors, metrics
from service.exchange import Exchange
from service.telemetry import request_id

MEDIA_TYPE = "application/problem+json"

PROBLEMS: dict[type[errors.ServiceError], tuple[HTTPStatus, str, str]] = {
    errors.Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "The service is busy"),
    errors.DeadlineExceeded: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "deadline-exceeded",
        "The request could not start in time",
    ),
    errors.ModelNotReady: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "model-not-ready",
        "The model does not answer now",
    ),
    errors.ModelFailed: (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "model-failed",
        "The model cannot compute that",
    ),
    errors.KeyMissing: (HTTPStatus.UNAUTHORIZED, "key-missing", "Who are you?"),
    errors.ScopeMissing: (HTTPStatus.FORBIDDEN, "scope-missing", "You may not do that"),
    errors.RequestInvalid: (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid-request",
        "The request is not valid",
    ),
    errors.BodyMalformed: (
        HTTPStatus.BAD_REQUEST,
        "malformed-body",
        "The body cannot be read",
    ),
    errors.MediaTypeUnsupported: (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body is of a type that is not supported",
    ),
    errors.MediaTypeUnacceptable: (
        HTTPStatus.NOT_ACCEPTABLE,
        "not-acceptable",
        "The answer cannot be given in an accepted type",
    ),
    errors.NameUnknown: (HTTPStatus.NOT_FOUND, "unknown-name", "There is no such thing"),
    errors.LimitExceeded: (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "limit-exceeded",
        "The request exceeds a limit",
    ),
    errors.BodyLate: (HTTPStatus.REQUEST_TIMEOUT, "body-late", "The body did not come in time"),
    errors.BodyTooLong: (
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-long",
        "The body is too long",
    ),
}


def describe(error: errors.ServiceError) -> dict[str, Any]:
    """The problem document of ``error``."""
    status, slug, title = PROBLEMS[type(error)]
    if not isinstance(error, errors.RequestInvalid):
        return document(status, slug, title, str(error))
    fields = [{"field": e.field, "expected": e.expected, "got": e.got} for e in error.errors]
    return document(status, slug, title, str(error), errors=fields)


def document(
    status: int, slug: str, title: str, detail: str, **extensions: object
) -> dict[str, Any]:
    kind = f"urn:gatewave:problem:{slug}"
    return {"type": kind, "title": title, "status": status, "detail": detail, **extensions}


def respond(problem: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps(problem), problem["status"], headers=headers, media_type=MEDIA_TYPE
    )


def headers_of(error: errors.ServiceError) -> dict[str, str]:
    """What an answer to ``error`` says in its headers."""
    if isinstance(error, errors.Overloaded):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, errors.KeyMissing):
        return {"WWW-Authenticate": "Bearer"}
    return {}


async def reply(exchange: Exchange, error: errors.ServiceError) -> None:
    """Answer with the problem that ``error`` is.

    Raises:
        ServiceError: ``error``, if no caller is to hear of it.
    """
    if type(error) not in PROBLEMS:
        raise error
    metrics.count_rejection(error)
    response = respond(describe(error), headers_of(error))
    await response(exchange.scope, exchange.receive, exchange.send)


def internal() -> Response:
    """What a caller learns of a failure of ours: where to find it in our logs."""
    return respond(
        document(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal",
            "The service failed",
            "The failure is ours, and logged under the request id.",
            request_id=request_id.get(),
        )
    )


def install(app: FastAPI) -> None:
    """Make every error that the app can answer with a problem document."""

    @app.exception_handler(errors.ServiceError)
    async def known(_: Request, error: errors.ServiceError) -> Response:
        if type(error) not in PROBLEMS:
            raise error
        metrics.count_rejection(error)
        return respond(describe(error), headers_of(error))

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        return respond(describe(errors.from_pydantic(error.errors())))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        phrase = HTTPStatus(error.status_code).phrase
        slug = phrase.lower().replace(" ", "-")
        detail = {
            HTTPStatus.NOT_FOUND: f"There is nothing at {request.url.path}",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not for {request.url.path}",
        }.get(HTTPStatus(error.status_code), error.detail)
        problem = document(error.status_code, slug, phrase, detail)
        return respond(problem, dict(error.headers or {}))
