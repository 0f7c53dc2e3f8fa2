"""Every error over HTTP; only this module knows which status is whose.

Errors are RFC 9457 problem details, whose types are URNs, ``urn:gatewave:problem:…``, so that
programs can tell problems apart by them. Below /v2 they are what the Open Inference Protocol has
for all of them: one text, and a status out of few.
"""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service import errors
from gatewave.service.http.connection.bounds import REFUSED
from gatewave.service.http.exchange import Exchange
from gatewave.service.observability import metrics
from gatewave.service.observability.logs import request_id
from gatewave.service.security import keys

MEDIA_TYPE = "application/problem+json"

PROBLEMS: dict[type[errors.ServiceError], tuple[HTTPStatus, str, str]] = {
    errors.Overloaded: (HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "The service is busy"),
    errors.ClientLimited: (
        HTTPStatus.TOO_MANY_REQUESTS,
        "client-limited",
        "Too many connections or requests of one client",
    ),
    errors.DeadlineExceeded: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "deadline-exceeded",
        "The request was not completed in time",
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
    errors.ModelRefused: (HTTPStatus.BAD_REQUEST, "model-refused", "The model cannot be served"),
    errors.ControlOff: (
        HTTPStatus.NOT_IMPLEMENTED,
        "control-off",
        "Models are not loaded or unloaded by request",
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
    errors.UrlTooLong: (
        HTTPStatus.REQUEST_URI_TOO_LONG,
        "url-too-long",
        "The URL is too long",
    ),
    errors.HeadTooLong: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-long",
        "The headers are too many, or too long",
    ),
    errors.HttpMalformed: (HTTPStatus.BAD_REQUEST, "malformed-http", "That is not HTTP"),
    errors.HttpUnsupported: (
        HTTPStatus.NOT_IMPLEMENTED,
        "unsupported-http",
        "The request uses a part of HTTP that is not supported",
    ),
    errors.HttpVersionUnsupported: (
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "unsupported-http-version",
        "The version of HTTP is not supported",
    ),
}

RETRY_SECONDS = 1
"""When to try again, where the error does not say."""

SAFE = {name.decode(): value.decode() for name, value in keys.HEADERS}
"""What errors carry, as all answers do; some are told before the middleware that would add it."""

OIP = "/v2"
OIP_STATUSES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.NOT_IMPLEMENTED,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    }
)
"""What the protocol tells apart, and HTTP itself; all else that is wrong is 400 there."""


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


def respond(path: str, problem: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """The answer to a request for ``path`` that ended with ``problem``."""
    status: int = problem["status"]
    headers = SAFE | (headers or {})
    if path == OIP or path.startswith(f"{OIP}/"):
        said = {"error": problem["detail"]}
        status = status if status in OIP_STATUSES else HTTPStatus.BAD_REQUEST
        return Response(orjson.dumps(said), status, headers, "application/json")
    return Response(orjson.dumps(problem), status, headers, MEDIA_TYPE)


def headers_of(error: errors.ServiceError) -> dict[str, str]:
    """What an answer to ``error`` says in its headers."""
    status, *_ = PROBLEMS[type(error)]
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        return {"Retry-After": str(getattr(error, "retry_after", RETRY_SECONDS))}
    if isinstance(error, errors.KeyMissing):
        return {"WWW-Authenticate": "Bearer"}
    return {}


def answer(path: str, error: errors.ServiceError) -> Response:
    """The answer to a request for ``path`` that ended with ``error``, which is counted.

    Raises:
        ServiceError: ``error``, if no caller is to hear of it.
    """
    if type(error) not in PROBLEMS:
        raise error
    metrics.count_rejection(error)
    # Sending the answer may take long; the rejected request is not kept for that time.
    errors.strip(error)
    return respond(path, describe(error), headers_of(error))


async def reply(exchange: Exchange, error: errors.ServiceError) -> None:
    """Answer with what `answer` makes of ``error``.

    Raises:
        ServiceError: ``error``, if no caller is to hear of it.
    """
    response = answer(exchange.scope["path"], error)
    await response(exchange.scope, exchange.receive, exchange.send)


def internal(path: str) -> Response:
    """What a caller learns of a failure of ours: where to find it in our logs."""
    identity = request_id.get()
    problem = document(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal",
        "The service failed",
        f"The failure is ours, and logged under the request id {identity}.",
        request_id=identity,
    )
    return respond(path, problem)


class Refusals:
    """Pure ASGI middleware: answers what the connection found to be no request that one answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine itself, as `Access`.
        error = scope.get(REFUSED)
        if error is None:
            return self.app(scope, receive, send)
        if not isinstance(error, errors.ServiceError):
            raise error
        return answer(scope["path"], error)(scope, receive, send)


def install(app: FastAPI) -> None:
    """Make every error that the app can answer for itself one of these."""

    @app.exception_handler(errors.ServiceError)
    async def known(request: Request, error: errors.ServiceError) -> Response:
        return answer(request.url.path, error)

    @app.exception_handler(Exception)
    async def unknown(request: Request, _: Exception) -> Response:
        return internal(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return answer(request.url.path, errors.from_pydantic(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        phrase = HTTPStatus(error.status_code).phrase
        slug = phrase.lower().replace(" ", "-")
        detail = {
            HTTPStatus.NOT_FOUND: f"There is nothing at {path}",
            HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not for {path}",
        }.get(HTTPStatus(error.status_code), error.detail)
        problem = document(error.status_code, slug, phrase, detail)
        return respond(path, problem, dict(error.headers or {}))
