"""Error answers over HTTP.

They are problem documents (RFC 9457) with types such as ``urn:gatewave:problem:overloaded``, by
which programs can distinguish them. Below /v2 they are ``{"error": TEXT}``, as the Open Inference
Protocol defines. Statuses and titles are declared by the error classes
(`gatewave.service.errors`).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gatewave.service.codecs.validation import from_pydantic
from gatewave.service.errors import ServiceError, problem_document
from gatewave.service.http.exchange import Exchange
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.http.paths import is_oip
from gatewave.service.observability import metrics
from gatewave.service.observability.request_ids import request_id
from gatewave.service.system.tracebacks import strip

MEDIA_TYPE = "application/problem+json"

SECURITY_HEADERS = {name.decode(): value.decode() for name, value in HEADERS}
"""Headers of all answers. Some errors are answered outside of the middleware that adds them."""


def respond(
    path: str,
    problem: dict[str, Any],
    oip_status: int,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return the answer with ``problem`` to a request for ``path``.

    Args:
        path: The path of the request, which determines the protocol.
        problem: The problem document.
        oip_status: The status of the answer if the path belongs to the Open Inference Protocol.
        headers: Headers of the answer, besides those of all answers.
    """
    headers = SECURITY_HEADERS | (headers or {})
    if is_oip(path):
        content = orjson.dumps({"error": problem["detail"]})
        return Response(content, oip_status, headers, "application/json")
    return Response(orjson.dumps(problem), problem["status"], headers, MEDIA_TYPE)


def answer(path: str, error: ServiceError) -> Response:
    """Count ``error``, and return the answer to a request for ``path`` that ended with it.

    Raises:
        ServiceError: ``error``, if it is internal.
    """
    if error.is_internal:
        raise error
    metrics.count_rejection(error)
    # Sending the answer may take long; the rejected request is not kept for that time.
    strip(error)
    return respond(path, error.problem(), error.oip_status, _headers(error))


async def reply(exchange: Exchange, error: ServiceError) -> None:
    """Send the answer that `answer` returns for ``error``.

    Raises:
        ServiceError: ``error``, if it is internal.
    """
    response = answer(exchange.scope["path"], error)
    await response(exchange.scope, exchange.receive, exchange.send)


def internal(path: str) -> Response:
    """Return the answer to a request that failed: the request id, under which the log has more."""
    identity = request_id.get()
    problem = problem_document(
        ServiceError.http_status,
        ServiceError.slug,
        ServiceError.title,
        f"The service failed. Its log has the reason under the request id {identity}.",
        request_id=identity,
    )
    return respond(path, problem, ServiceError.oip_status)


def install(app: FastAPI) -> None:
    """Register handlers that answer each error of ``app`` in the form of its protocol."""

    @app.exception_handler(ServiceError)
    async def known(request: Request, error: ServiceError) -> Response:
        return answer(request.url.path, error)

    @app.exception_handler(Exception)
    async def unknown(request: Request, _: Exception) -> Response:
        return internal(request.url.path)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> Response:
        return answer(request.url.path, from_pydantic(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        path, status = request.url.path, HTTPStatus(error.status_code)
        detail = {
            HTTPStatus.NOT_FOUND: f"The service has no path {path}.",
            HTTPStatus.METHOD_NOT_ALLOWED: f"The path {path} does not accept {request.method}.",
        }.get(status, error.detail)
        slug = status.phrase.lower().replace(" ", "-")
        problem = problem_document(status, slug, status.phrase, detail)
        return respond(path, problem, status, dict(error.headers or {}))


def _headers(error: ServiceError) -> dict[str, str]:
    """Return the headers with which HTTP supplements some statuses."""
    if error.retry_after is not None:
        return {"Retry-After": str(error.retry_after)}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    return {}
