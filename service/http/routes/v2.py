"""The Open Inference Protocol over HTTP: /v2 and below."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Message

from gatewave.service.activate.messages import parsed
from gatewave.service.codecs.nested import memory_of_lists
from gatewave.service.codecs.simd import NotPlain
from gatewave.service.errors import (
    BodyTooLong,
    ControlOff,
    NameUnknown,
    RequestInvalid,
    ServiceError,
)
from gatewave.service.http import compression, problems
from gatewave.service.http.exchange import Body, Exchange, Handover, Headers, Part
from gatewave.service.http.media import JSON, JSON_BYTES, OCTETS
from gatewave.service.http.routes.activate import JSON_WEIGHT
from gatewave.service.http.schemas import InferBody, InferError, InferResult
from gatewave.service.observability.metrics import Span, timed
from gatewave.service.oip import json, metadata
from gatewave.service.oip.json import Bounds, InferRequest
from gatewave.service.oip.requests import call_of, deadline
from gatewave.service.oip.unsupported import refuse_of_repository
from gatewave.service.serving.control import Control
from gatewave.service.serving.memory import Permit
from gatewave.service.serving.model import Model
from gatewave.service.serving.pipeline import READ_WEIGHT, TEXT_WEIGHT
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

router = APIRouter(
    prefix="/v2",
    tags=["Open Inference Protocol"],
    responses={"4XX": {"model": InferError}, "5XX": {"model": InferError}},
)

MODELS = "/v2/models/"
INFER = "/infer"
UNUSUAL = frozenset({json.LENGTH_HEADER, b"content-encoding", b"accept-encoding"})
"""The headers of requests that are not only JSON, or may be answered in less of it."""
STRING_WEIGHT = 64
"""Bytes of plain text that take as long to read as one raw string."""
LONGEST_DOCUMENT = 1 << 16
"""In bytes, of what is asked of the repository."""
VERSIONS = "/versions/"

Result = TypeVar("Result")


class InferEndpoint:
    """Answers POST /v2/models/{model}/infer, of a version or of the highest."""

    route = "/v2/models/{model}/infer"

    def __init__(self, state: ServiceState) -> None:
        self.state = state

    async def __call__(self, exchange: Exchange) -> None:
        try:
            await self._answer(exchange)
        except ServiceError as error:
            await problems.reply(exchange, error)

    def fast_path(
        self, path: str, headers: Mapping[bytes, bytes], body: bytes, came: float
    ) -> tuple[bytes, bytes] | None:
        if not UNUSUAL.isdisjoint(headers):
            return None
        began = time.perf_counter()
        model = self.state.registry.get(*_names(path))
        request = json.plain(body, self.state.settings.max_rank)
        call = call_of(self.state, model, request.inputs, (), {})
        inference = self.state.inference
        if not inference.is_light(call):
            return None
        read = time.perf_counter()
        outputs = inference.now(call)
        computed = time.perf_counter()
        (text,) = json.encode(request, call, outputs)
        model.meter.answered(came, began, read, computed)
        return JSON_BYTES, bytes(text)

    async def _answer(self, exchange: Exchange) -> None:
        model = self.state.registry.get(*_names(exchange.scope["path"]))
        coding = compression.accepted(exchange.header(b"accept-encoding"))
        with self.state.inference.budget.permit(exchange.client) as permit:
            body, began, arrived = await self._body(exchange, permit)
            with model.meter.expecting(began):
                request, call, decoding = await self._call(exchange, model, body, arrived, permit)
                work = self._answered(request, call, permit)
                is_light = self.state.inference.is_light(call)
                parts, encoding = await (work if is_light else exchange.cancel_on_disconnect(work))
            model.meter.finished(began, decoding, encoding)
            is_raw = any(map(request.is_raw, call.outputs))
            headers = [(json.LENGTH_HEADER, b"%d" % len(parts[0]))] if is_raw else []
            kind = OCTETS if is_raw else JSON
            await self._reply(exchange, kind, coding, parts, headers, permit)

    async def _call(
        self, exchange: Exchange, model: Model, body: Body, arrived: float, permit: Permit
    ) -> tuple[InferRequest, InferenceRequest, Span]:
        """What is asked of ``model``, and when that was read."""
        request, decoding = await self._read(exchange, model, body, arrived, permit)
        due = deadline(self.state, request.parameters, arrived)
        wanted, parameters = list(request.raw), request.parameters
        call = call_of(self.state, model, request.inputs, wanted, parameters, due)
        return request, call, decoding

    async def _answered(
        self, request: InferRequest, call: InferenceRequest, permit: Permit
    ) -> tuple[list[Part], Span]:
        inference = self.state.inference
        weight = 1 if all(map(request.is_raw, call.outputs)) else TEXT_WEIGHT
        outputs = await inference.infer(call, permit, weight=weight)
        encode = timed(partial(json.encode, request, call, outputs))
        return await inference.finish(request.written(outputs), encode)

    async def _body(self, exchange: Exchange, permit: Permit) -> tuple[Body, float, float]:
        """The body as it came, but decompressed; and when it had come, by both clocks."""
        settings = self.state.settings
        raw = exchange.headers.get(json.LENGTH_HEADER)
        most = settings.max_body_bytes if raw else self._most_json
        weight = 1 if raw else JSON_WEIGHT
        coding = compression.coding(exchange.header(b"content-encoding"))
        body = await exchange.body(
            settings.max_body_bytes if coding else most,
            settings.body_seconds,
            permit,
            weight=1 if coding else weight,
            data_at=lambda _: json.header_length(raw, most) or 0,
        )
        began, arrived = time.perf_counter(), time.monotonic()
        if coding is None:
            return body, began, arrived
        due = deadline(self.state, {}, arrived)
        whole = await exchange.cancel_on_disconnect(self._decompressed(body, most, due, permit))
        if weight > 1:
            permit.take(len(whole) * (weight - 1))
        return whole, began, arrived

    async def _decompressed(self, body: Body, most: int, due: float, permit: Permit) -> Body:
        """Return a decompressed body; memory is held as it grows. Long bodies use a lane."""
        inference = self.state.inference
        longest = min(most, compression.longest(body))
        source = compression.Decompression(body, most)
        length = await inference.work(longest, source.next, CancelToken(due))
        while length:
            permit.take(length)
            length = await inference.finish(longest, source.next)
        return memoryview(source.whole)

    async def _read(
        self, exchange: Exchange, model: Model, body: Body, arrived: float, permit: Permit
    ) -> tuple[InferRequest, Span]:
        """The request, read in a lane if it has much JSON, or many strings."""
        length = json.header_length(exchange.headers.get(json.LENGTH_HEADER), len(body))
        text = len(body) if length is None else length
        if text > self._most_json:
            raise BodyTooLong.at("body", f"at most {self._most_json} bytes of JSON", text)
        due = deadline(self.state, {}, arrived)
        if length == 0:
            memory = json.memory_of_whole(body, model)
            permit.take(memory)
            size = len(body) if memory else 0
            whole = timed(partial(json.whole, body, model, self._bounds))
            return await self._work(exchange, size, whole, due)
        if length is None:
            return await self._read_json(exchange, model, bytes(body), due, permit)
        permit.take(memory_of_lists(bytes(body[:length])))
        opening = timed(partial(json.opened, body, length))
        envelope, (began, _) = await self._work(exchange, text * READ_WEIGHT, opening, due)
        permit.take(envelope.memory)
        strings = min(envelope.strings * STRING_WEIGHT, len(body) * READ_WEIGHT)
        unpacking = timed(partial(json.unpacked, envelope, model, self._bounds))
        size = text * READ_WEIGHT + strings
        request, (_, ended) = await self._work(exchange, size, unpacking, due)
        return request, (began, ended)

    async def _read_json(
        self, exchange: Exchange, model: Model, text: bytes, due: float, permit: Permit
    ) -> tuple[InferRequest, Span]:
        """Return the request in ``text``, read on the event loop if that is quick, or in a lane."""
        permit.take(memory_of_lists(text))
        if not self.state.inference.is_inline(len(text)):
            reading = timed(partial(json.decode, text, model, self._bounds))
            return await self._work(exchange, len(text), reading, due)
        with suppress(NotPlain):
            return timed(partial(json.plain, text, self._bounds.max_rank))()
        reading = timed(partial(json.complete, text, model, self._bounds))
        return await self._work(exchange, len(text) * READ_WEIGHT, reading, due)

    async def _work(
        self, exchange: Exchange, size: int, work: Callable[[], Result], due: float
    ) -> Result:
        """Run ``work`` here, or in a lane until its caller has gone."""
        inference = self.state.inference
        doing = inference.work(size, work, CancelToken(due))
        return await (doing if inference.is_inline(size) else exchange.cancel_on_disconnect(doing))

    async def _reply(  # noqa: PLR0917 - each is a part of the answer
        self,
        exchange: Exchange,
        kind: str,
        coding: str | None,
        parts: list[Part],
        headers: Headers,
        permit: Permit,
    ) -> None:
        size = sum(map(len, parts))
        if coding is None or size < compression.WORTHWHILE:
            await exchange.reply(200, kind.encode(), *parts, headers=headers)
            return
        permit.owe(size)
        work = partial(compression.compressed, parts, coding)
        body = await exchange.cancel_on_disconnect(self.state.inference.finish(size, work))
        headers = [*headers, (b"content-encoding", coding.encode()), (b"vary", b"accept-encoding")]
        await exchange.reply(200, kind.encode(), body, headers=headers)

    @property
    def _bounds(self) -> Bounds:
        settings = self.state.settings
        return Bounds(settings.max_rank, settings.max_elements)

    @property
    def _most_json(self) -> int:
        return min(self.state.settings.max_json_bytes, self.state.settings.max_body_bytes)


def is_infer(path: str) -> bool:
    """Whether ``path`` is one of those that `InferEndpoint` answers."""
    return path.startswith(MODELS) and path.endswith(INFER)


def _names(path: str) -> tuple[str, str]:
    """The model's name and version in the path of an inference request."""
    middle = path[len(MODELS) : -len(INFER)]
    name, slash, version = middle.partition(VERSIONS)
    if "/" in name or "/" in version or (slash and not version):
        raise NameUnknown.at("path", "/v2/models/{model}[/versions/{version}]/infer", path)
    return name, version


BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": f"#/components/schemas/{InferBody.__name__}"}},
            OCTETS: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get("")
@router.get("/", include_in_schema=False)  # As in the protocol's OpenAPI document.
async def server_metadata() -> dict[str, Any]:
    """The server: its name, version, and what of the protocol it speaks."""
    return metadata.server()


@router.get("/health/live")
async def server_live() -> JSONResponse:
    """The process runs: 200. Triton's clients look no further, KServe's want to read it too."""
    return JSONResponse({"live": True})


@router.get("/health/ready", responses={503: {"model": InferError}})
async def server_ready(request: Request) -> JSONResponse:
    """The server takes requests: 200. Of a model, `/models/{model}/ready` tells."""
    if _runtime(request).ready:
        return JSONResponse({"ready": True})
    return JSONResponse({"error": "the server is not ready"}, 503)


@router.get("/models/stats")
async def all_statistics(request: Request) -> JSONResponse:
    """How often each model was run, and how long its requests took, since the start."""
    return JSONResponse(await metadata.statistics(_runtime(request).registry))


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}")
async def model_metadata(request: Request, model: str, version: str = "") -> JSONResponse:
    """A model's inputs and outputs: names, datatypes, and shapes where -1 is any size."""
    registry = _runtime(request).registry
    found = registry.get(model, version)
    document = metadata.model_metadata(registry, found)
    parameters = metadata.model_parameters(found)
    return JSONResponse(document | {"parameters": parameters} if parameters else document)


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str = "") -> JSONResponse:
    """The model answers: 200."""
    _runtime(request).registry.get(model, version)
    return JSONResponse({"name": model, "ready": True})


@router.get("/models/{model}/config")
@router.get("/models/{model}/versions/{version}/config")
async def model_config(request: Request, model: str, version: str = "") -> JSONResponse:
    """How a model is run, in the words of Triton's model configuration."""
    return JSONResponse(metadata.model_config(_runtime(request).registry.get(model, version)))


@router.get("/models/{model}/stats")
@router.get("/models/{model}/versions/{version}/stats")
async def model_statistics(request: Request, model: str, version: str = "") -> JSONResponse:
    """How often a model was run, and how long its requests took, since the start."""
    registry = _runtime(request).registry
    return JSONResponse(await metadata.statistics(registry, model, version))


@router.post("/models/{model}/infer", response_model=InferResult, openapi_extra=BODY)
@router.post(
    "/models/{model}/versions/{version}/infer", response_model=InferResult, openapi_extra=BODY
)
async def infer(request: Request, model: str, version: str = "") -> Response:  # noqa: ARG001
    """Run a model.

    Tensors go in JSON, or with the binary tensor data extension as raw bytes behind it. The
    parameter `timeout` says in how many microseconds the request must have started.
    """
    return Handover(request.app.state.infer)


@router.post("/repository/index")
async def repository_index(request: Request) -> JSONResponse:
    """Every model and version that is served, or in the repository, and what became of it."""
    state = _runtime(request)
    if state.repository is not None:
        await state.repository.look()
    wanted = await _document(request)
    ready_only = wanted.get("ready", False) is True
    return JSONResponse(metadata.repository_index(state.registry, ready_only=ready_only))


@router.post("/repository/models/{model}/load")
async def load_model(request: Request, model: str) -> Response:
    """Load a model's versions from the repository, or load them again."""
    repository = _repository(_runtime(request))
    await _refuse_own_files(request)
    await repository.load(model)
    return Response()


@router.post("/repository/models/{model}/unload")
async def unload_model(request: Request, model: str) -> Response:
    """Serve a model no more; requests under way are answered."""
    repository = _repository(_runtime(request))
    await _refuse_own_files(request)
    await repository.unload(model)
    return Response()


async def _document(request: Request) -> dict[str, Any]:
    """The body of a request about the repository: an object, or nothing at all."""
    state = _runtime(request)
    exchange = Exchange(request.scope, request.receive, _nowhere)
    with state.inference.budget.permit(exchange.client) as permit:
        body = await exchange.body(LONGEST_DOCUMENT, state.settings.body_seconds, permit)
    document = parsed(body) if bytes(body).strip() else {}
    if not isinstance(document, dict):
        raise RequestInvalid.at("body", "an object", document)
    return document


async def _refuse_own_files(request: Request) -> None:
    parameters = (await _document(request)).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise RequestInvalid.at("parameters", "an object", parameters)
    refuse_of_repository(parameters)


async def _nowhere(_: Message) -> None:
    """Where a request that is only read sends its answer."""


def _runtime(request: Request) -> ServiceState:
    state: ServiceState = request.app.state.service
    return state


def _repository(state: ServiceState) -> Control:
    if state.repository is None:
        raise ControlOff("there is no model repository: set GATEWAVE_REPOSITORY")
    return state.repository
