"""POST /activate and POST /activate/batch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from gatewave.service.activate import messages
from gatewave.service.activate.messages import Reader, parsed
from gatewave.service.activate.plan import Plan
from gatewave.service.codecs import nested, safetensors
from gatewave.service.codecs.simd import NotPlain
from gatewave.service.errors import MediaTypeUnsupported, RequestInvalid, ServiceError
from gatewave.service.http import media, problems
from gatewave.service.http.exchange import Body, Exchange, Handover, Part
from gatewave.service.http.media import JSON, SAFETENSORS
from gatewave.service.http.schemas import (
    ActivateRequest,
    ActivateResponse,
    BatchRequest,
    BatchResponse,
)
from gatewave.service.observability.metrics import Span, timed
from gatewave.service.serving.memory import Permit
from gatewave.service.serving.pipeline import READ_WEIGHT, TEXT_WEIGHT
from gatewave.service.serving.request import InferenceRequest, Timing
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

router = APIRouter(tags=["evaluate"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
JSON_WEIGHT = 8
"""How many bytes a byte of JSON comes to: the numbers, and what they are read by."""
BATCH_WEIGHT = 64
"""Bytes of plain text that take as long as one byte of a batch: 4 KiB contain thirty requests, each
with up to 16 errors."""
ITEM_WEIGHT = 1 << 12
"""Bytes of plain text that take as long to read as the computation of one request of a batch."""


class ActivateEndpoint:
    """Answers POST /activate."""

    route = "/activate"

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.reader = Reader(state)

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ServiceError as error:
            await problems.reply(exchange, error)

    def fast_path(
        self,
        path: str,  # noqa: ARG002 - it has but one
        headers: Mapping[bytes, bytes],
        body: bytes,
        came: float,
    ) -> tuple[bytes, bytes] | None:
        if b"content-encoding" in headers or not media.is_json(headers):
            return None
        began = time.perf_counter()
        plan, call = self.reader.plain(body)
        inference = self.state.inference
        if not inference.is_light(call):
            return None
        read = time.perf_counter()
        outputs = inference.now(call)
        computed = time.perf_counter()
        text = messages.to_json(plan, outputs)
        call.model.meter.answered(came, began, read, computed)
        return media.JSON_BYTES, text

    async def _answer(self, exchange: Exchange) -> None:
        _refuse_encoding(exchange)
        kind = media.content_type(exchange.header(b"content-type"))
        wanted = media.accepted(exchange.header(b"accept"), kind)
        inference = self.state.inference
        with inference.budget.permit(exchange.client) as permit:
            body = await _body(exchange, self.state, kind, permit)
            arrival = Timing.now(self.state.settings.timeout_seconds)
            (plan, call), decoding = await self._read(exchange, body, kind, arrival, permit)
            work = self._answered(plan, call, wanted, permit)
            with call.model.meter.expecting(arrival.began):
                is_light = inference.is_light(call)
                parts, encoding = await (work if is_light else exchange.cancel_on_disconnect(work))
            call.model.meter.finished(arrival.began, decoding, encoding)
            await exchange.reply(200, wanted.encode(), *parts)

    async def _answered(
        self, plan: Plan, call: InferenceRequest, wanted: str, permit: Permit
    ) -> tuple[list[Part], Span]:
        inference = self.state.inference
        if wanted == SAFETENSORS:
            outputs = await inference.infer(call, permit)
            return timed(lambda: messages.to_safetensors(plan, outputs))()
        outputs = await inference.infer(call, permit, weight=TEXT_WEIGHT)
        size = sum(output.nbytes for output in outputs.values())
        return await inference.finish(size, timed(lambda: [messages.to_json(plan, outputs)]))

    async def _read(
        self, exchange: Exchange, body: Body, kind: str, arrival: Timing, permit: Permit
    ) -> tuple[tuple[Plan, InferenceRequest], Span]:
        """What is asked for; long texts are read in a lane, tensors lie in files as they are."""
        if kind == SAFETENSORS:
            return timed(lambda: self.reader.safetensors(body, arrival))()
        inference, text = self.state.inference, bytes(body)
        size = len(text)
        work = timed(lambda: self.reader.json(text, arrival))
        if inference.is_inline(size):
            with suppress(NotPlain, RequestInvalid):
                return timed(lambda: self.reader.plain(text, arrival.deadline))()
            work = timed(lambda: self.reader.document(parsed(text), arrival))
            size *= READ_WEIGHT
        permit.take(nested.memory_of_lists(text))
        reading = inference.work(size, work, CancelToken(arrival.deadline))
        return await (
            reading if inference.is_inline(size) else exchange.cancel_on_disconnect(reading)
        )


class BatchEndpoint:
    """Answers POST /activate/batch."""

    route = "/activate/batch"

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.reader = Reader(state)

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ServiceError as error:
            await problems.reply(exchange, error)

    def fast_path(
        self, path: str, headers: Mapping[bytes, bytes], body: bytes, came: float
    ) -> None:
        """A batch is never a matter of microseconds."""

    async def _answer(self, exchange: Exchange) -> None:
        _refuse_encoding(exchange)
        media.content_type(exchange.header(b"content-type"), (JSON,))
        media.accepted(exchange.header(b"accept"), JSON, (JSON,))
        with self.state.inference.budget.permit(exchange.client) as permit:
            body = await _body(exchange, self.state, JSON, permit)
            answer = await exchange.cancel_on_disconnect(self._answered(bytes(body), permit))
            await exchange.reply(200, JSON.encode(), answer)

    async def _answered(self, body: bytes, permit: Permit) -> bytes:
        """The answers to all requests in ``body``, whose results are bounded as those of one."""
        inference = self.state.inference
        permit.take(nested.memory_of_lists(body))
        deadline = Timing.now(self.state.settings.timeout_seconds).deadline
        reading = partial(messages.read_batch, self.reader, body, deadline)
        items = await inference.work(len(body) * BATCH_WEIGHT, reading, CancelToken(deadline))
        calls = [item.call for item in items if isinstance(item, messages.Item)]
        produced = sum(call.model.output_bytes(call.inputs, call.outputs) for call in calls)
        inference.check_produced(produced, "requests")
        permit.take(produced * TEXT_WEIGHT)
        token = CancelToken(deadline)
        work = partial(messages.to_json_batch, inference, items, token)
        size = max(len(body), produced, len(items) * ITEM_WEIGHT)
        return await inference.work(size, work, token)


async def _body(exchange: Exchange, state: ServiceState, kind: str, permit: Permit) -> Body:
    """The body. Reading JSON holds the interpreter up in any thread, so there may be less of it."""
    settings = state.settings
    seconds = settings.body_seconds
    if kind == JSON:
        most = min(settings.max_json_bytes, settings.max_body_bytes)
        return await exchange.body(most, seconds, permit, weight=JSON_WEIGHT)
    most = settings.max_body_bytes
    return await exchange.body(most, seconds, permit, data_at=safetensors.data_at)


def _refuse_encoding(exchange: Exchange) -> None:
    encoding = exchange.header(b"content-encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise MediaTypeUnsupported.at("Content-Encoding", "none", encoding)


def _openapi(model: str, *, binary: bool) -> dict[str, Any]:
    """The request body in OpenAPI: FastAPI does not see it, since the route reads it itself."""
    content = {JSON: {"schema": {"$ref": f"#/components/schemas/{model}"}}}
    if binary:
        content[SAFETENSORS] = BINARY
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/activate",
    response_model=ActivateResponse,
    responses={200: {"content": {SAFETENSORS: BINARY}}},
    openapi_extra=_openapi(ActivateRequest.__name__, binary=True),
)
async def activate(request: Request) -> Response:
    """Evaluate an activation, its derivatives, or the gradients that a backward pass needs.

    A safetensors body holds the tensors by name, and in its metadata `activation`, and, where they
    differ from the defaults, `params` and `outputs`, both in JSON; the dtype is the tensors'. The
    answer comes in the request's media type, unless `Accept` asks for the other.
    """
    return Handover(request.app.state.endpoints["/activate"])


@router.post(
    "/activate/batch",
    response_model=BatchResponse,
    openapi_extra=_openapi(BatchRequest.__name__, binary=False),
)
async def activate_batch(request: Request) -> Response:
    """Evaluate many requests, independent of each other: one that is wrong fails alone."""
    return Handover(request.app.state.endpoints["/activate/batch"])
