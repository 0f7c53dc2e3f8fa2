"""POST /activate and POST /activate/batch."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from gatewave.service.activate.batch import Item, read_batch, to_json_batch
from gatewave.service.activate.messages import BodyReader
from gatewave.service.activate.protocol import ActivateProtocol
from gatewave.service.activate.schemas import ActivateRequest, BatchRequest
from gatewave.service.codecs import nested, safetensors
from gatewave.service.codecs.bodies import JSON, SAFETENSORS
from gatewave.service.errors import MediaTypeUnsupported
from gatewave.service.http import media
from gatewave.service.http.endpoints import EndpointResponse
from gatewave.service.http.exchange import Exchange, header
from gatewave.service.http.inference import (
    JSON_WEIGHT,
    BodyEndpoint,
    InferenceEndpoint,
    RequestHeaders,
)
from gatewave.service.http.request_body import BodyRule
from gatewave.service.http.schemas import ActivateResponse, BatchResponse
from gatewave.service.serving.memory import Permit
from gatewave.service.serving.pipeline import TEXT_WEIGHT
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

router = APIRouter(tags=["evaluate"])

BINARY = {"schema": {"type": "string", "format": "binary"}}
BATCH_WEIGHT = 64
"""Bytes of plain text that take as long as one byte of a batch: 4 KiB contain thirty requests, each
with up to 16 errors."""
ITEM_WEIGHT = 1 << 12
"""Bytes of plain text that take as long to read as the computation of one request of a batch."""


class ActivateEndpoint(InferenceEndpoint):
    """Endpoint of POST /activate."""

    route = "/activate"

    def __init__(self, state: ServiceState) -> None:
        super().__init__(state)
        self.reader = BodyReader(state)
        self._json = ActivateProtocol(self.reader)

    def protocol(self, path: str, headers: RequestHeaders) -> ActivateProtocol:  # noqa: ARG002 - it has one path
        if b"content-encoding" in headers:
            _refuse_coding(headers)
        if media.is_json(headers):
            return self._json
        kind = media.content_type(header(headers, b"content-type"))
        return ActivateProtocol(self.reader, kind, media.accepted(header(headers, b"accept"), kind))

    def body_rule(self, headers: RequestHeaders) -> BodyRule:
        if media.content_type(header(headers, b"content-type")) == JSON:
            return BodyRule(self.max_json_bytes, JSON_WEIGHT)
        return BodyRule(self.state.settings.max_body_bytes, data_at=safetensors.data_at)


class BatchEndpoint(BodyEndpoint):
    """Endpoint of POST /activate/batch."""

    route = "/activate/batch"

    def __init__(self, state: ServiceState) -> None:
        super().__init__(state)
        self.reader = BodyReader(state)

    def fast_path(self, path: str, headers: RequestHeaders, body: bytes, arrived: float) -> None:
        """Decline each request: a batch takes too long."""

    async def answer(self, exchange: Exchange) -> None:
        _refuse_coding(exchange.headers)
        media.content_type(header(exchange.headers, b"content-type"), (JSON,))
        media.accepted(header(exchange.headers, b"accept"), JSON, (JSON,))
        with self.pipeline.budget.permit(exchange.client) as permit:
            rule = BodyRule(self.max_json_bytes, JSON_WEIGHT)
            body, timing = await self.receive(exchange, rule, None, permit)
            work = self._answered(bytes(body), timing.deadline, permit)
            answer = await exchange.cancel_on_disconnect(work)
            await exchange.reply(200, JSON.encode(), answer)

    async def _answered(self, body: bytes, deadline: float | None, permit: Permit) -> bytes:
        """Return the answers to all requests; the limits on results hold for their sum."""
        pipeline = self.pipeline
        permit.take(nested.memory_of_lists(body))
        reading = partial(read_batch, self.reader, body, deadline)
        items = await pipeline.work(len(body) * BATCH_WEIGHT, reading, CancelToken(deadline))
        calls = [item.decoded.call for item in items if isinstance(item, Item)]
        produced = sum(call.model.output_bytes(call.inputs, call.outputs) for call in calls)
        pipeline.check_produced(produced, "requests")
        permit.take(produced * TEXT_WEIGHT)
        token = CancelToken(deadline)
        work = partial(to_json_batch, pipeline, items, token)
        size = max(len(body), produced, len(items) * ITEM_WEIGHT)
        return await pipeline.work(size, work, token)


def _refuse_coding(headers: RequestHeaders) -> None:
    coding = header(headers, b"content-encoding")
    if coding is not None and coding.lower() != "identity":
        raise MediaTypeUnsupported.at("Content-Encoding", "none", coding)


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
    return EndpointResponse(request.app.state.endpoints)


@router.post(
    "/activate/batch",
    response_model=BatchResponse,
    openapi_extra=_openapi(BatchRequest.__name__, binary=False),
)
async def activate_batch(request: Request) -> Response:
    """Evaluate many requests, independent of each other: one that is wrong fails alone."""
    return EndpointResponse(request.app.state.endpoints)
