"""POST /activate and POST /activate/batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from service import messages
from service.errors import NOTHING, BodyLate, BodyTooLong, MediaTypeUnsupported
from service.messages import JSON, SAFETENSORS, Answerer
from service.schemas import ActivateRequest, ActivateResponse, BatchRequest, BatchResponse

router = APIRouter(tags=["evaluate"])

BINARY = {"schema": {"type": "string", "format": "binary"}}


def _body(model: str, *, binary: bool) -> dict[str, Any]:
    """The request body in OpenAPI: FastAPI does not see it, since the route reads it itself."""
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    if binary:
        content[SAFETENSORS] = BINARY
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/activate",
    response_model=ActivateResponse,
    responses={200: {"content": {SAFETENSORS: BINARY}}},
    openapi_extra=_body(ActivateRequest.__name__, binary=True),
)
async def activate(request: Request) -> Response:
    """Evaluate an activation, its derivatives, or the gradients that a backward pass needs.

    A safetensors body holds the tensors by name, and in its metadata `activation`, and, where they
    differ from the defaults, `params` and `outputs`, both in JSON; the dtype is the tensors'. The
    answer comes in the request's media type, unless `Accept` asks for the other.
    """
    answerer: Answerer = request.app.state.answerer
    _refuse_encoding(request)
    kind = messages.content_type(request.headers.get("content-type"))
    wanted = messages.accepted(request.headers.get("accept"), kind)
    body = await _read(request, _most(answerer, kind), answerer.settings.body_seconds)
    answer = await _answered(answerer, body, lambda: answerer.activate(body, kind, wanted))
    return Response(answer, media_type=wanted)


@router.post(
    "/activate/batch",
    response_model=BatchResponse,
    openapi_extra=_body(BatchRequest.__name__, binary=False),
)
async def activate_batch(request: Request) -> Response:
    """Evaluate many requests, independent of each other: one that is wrong fails alone."""
    answerer: Answerer = request.app.state.answerer
    _refuse_encoding(request)
    messages.content_type(request.headers.get("content-type"), (JSON,))
    messages.accepted(request.headers.get("accept"), JSON, (JSON,))
    body = await _read(request, _most(answerer, JSON), answerer.settings.body_seconds)
    answer = await _answered(answerer, body, lambda: answerer.batch(body))
    return Response(answer, media_type=JSON)


async def _answered(answerer: Answerer, body: bytes, work: Callable[[], bytes]) -> bytes:
    """Do ``work`` here if the body is small, so that it is fast; otherwise in a thread."""
    if len(body) <= answerer.settings.inline_bytes:
        return work()
    return await to_thread.run_sync(work)


def _most(answerer: Answerer, kind: str) -> int:
    """The longest body of its kind. Reading JSON holds the interpreter up, in any thread."""
    settings = answerer.settings
    lower = min(settings.max_json_bytes, settings.max_body_bytes)
    return lower if kind == JSON else settings.max_body_bytes


async def _read(request: Request, most: int, seconds: float) -> bytes:
    """The body, if it comes in time; one that is too long is refused as soon as that is known."""
    try:
        async with asyncio.timeout(seconds):
            return await _received(request, most)
    except TimeoutError as error:
        raise BodyLate.at("body", f"all of it within {seconds:g} seconds", NOTHING) from error


async def _received(request: Request, most: int) -> bytes:
    announced = request.headers.get("content-length", "0")
    length = int(announced) if announced.isdecimal() else 0
    chunks: list[bytes] = []
    received = 0
    stream = request.stream()
    while length <= most and received <= most and (chunk := await anext(stream, b"")):
        chunks.append(chunk)
        received += len(chunk)
    if max(length, received) > most:
        raise BodyTooLong.at("body", f"at most {most} bytes", max(length, received))
    return b"".join(chunks)


def _refuse_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise MediaTypeUnsupported.at("Content-Encoding", "none", encoding)
