"""The Open Inference Protocol over HTTP: /v2 and below."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Message

from gatewave.service.codecs.bodies import JSON, OCTETS
from gatewave.service.codecs.documents import parsed
from gatewave.service.errors import ControlOff, NameUnknown, RequestInvalid
from gatewave.service.http import compression
from gatewave.service.http.endpoints import EndpointResponse
from gatewave.service.http.exchange import Exchange, header
from gatewave.service.http.inference import (
    JSON_WEIGHT,
    InferenceEndpoint,
    RequestHeaders,
)
from gatewave.service.http.request_body import BodyRule
from gatewave.service.http.schemas import InferBody, InferError, InferResult
from gatewave.service.oip import json, metadata
from gatewave.service.oip.protocol import InferLimits, InferProtocol
from gatewave.service.oip.unsupported import refuse_of_repository
from gatewave.service.serving.repository_control import RepositoryControl
from gatewave.service.state import ServiceState

router = APIRouter(
    prefix="/v2",
    tags=["Open Inference Protocol"],
    responses={"4XX": {"model": InferError}, "5XX": {"model": InferError}},
)

MODELS = "/v2/models/"
INFER = "/infer"
VERSIONS = "/versions/"
DOCUMENT = BodyRule(1 << 16)
"""Limit on the body of a request to the model repository."""


class InferEndpoint(InferenceEndpoint):
    """Endpoint of POST /v2/models/{model}/infer, for one version or for the latest."""

    route = f"{MODELS}{{model}}{INFER}"

    def __init__(self, state: ServiceState) -> None:
        super().__init__(state)
        self.limits = InferLimits.of(state.settings)

    def protocol(self, path: str, headers: RequestHeaders) -> InferProtocol:
        model = self.state.registry.get(*_names(path))
        length = headers.get(json.LENGTH_HEADER)
        return InferProtocol(self.state, self.limits, model, length)

    def body_rule(self, headers: RequestHeaders) -> BodyRule:
        length = headers.get(json.LENGTH_HEADER)
        if not length:
            return BodyRule(self.max_json_bytes, JSON_WEIGHT)
        most = self.state.settings.max_body_bytes
        return BodyRule(most, data_at=lambda _: json.header_length(length, most) or 0)

    def content_coding(self, headers: RequestHeaders) -> str | None:
        return compression.coding(header(headers, b"content-encoding"))

    def accepted_coding(self, headers: RequestHeaders) -> str | None:
        return compression.accepted(header(headers, b"accept-encoding"))


@lru_cache(64)
def _names(path: str) -> tuple[str, str]:
    """Return the name and the version of the model in the path of an inference request.

    Clients ask for few models. The cache is small, since a path may be as long as a head.

    Raises:
        NameUnknown: The path has other parts.
    """
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
    """Return the name, the version and the protocol extensions of the server."""
    return metadata.server()


@router.get("/health/live")
async def server_live() -> JSONResponse:
    """Answer 200 while the process runs. KServe's clients read the body, Triton's do not."""
    return JSONResponse({"live": True})


@router.get("/health/ready", responses={503: {"model": InferError}})
async def server_ready(request: Request) -> JSONResponse:
    """Answer 200 if the server takes requests. `/models/{model}/ready` is about one model."""
    if _state(request).ready:
        return JSONResponse({"ready": True})
    return JSONResponse({"error": "the server is not ready"}, 503)


@router.get("/models/stats")
async def all_statistics(request: Request) -> JSONResponse:
    """Return the number of requests to each model since the start, and their durations."""
    return JSONResponse(await metadata.statistics(_state(request).registry))


@router.get("/models/{model}")
@router.get("/models/{model}/versions/{version}")
async def model_metadata(request: Request, model: str, version: str = "") -> JSONResponse:
    """Return the inputs and outputs of a model: names, datatypes, shapes; -1 is any size."""
    registry = _state(request).registry
    found = registry.get(model, version)
    document = metadata.model_metadata(registry, found)
    parameters = metadata.model_parameters(found)
    return JSONResponse(document | {"parameters": parameters} if parameters else document)


@router.get("/models/{model}/ready")
@router.get("/models/{model}/versions/{version}/ready")
async def model_ready(request: Request, model: str, version: str = "") -> JSONResponse:
    """Answer 200 if the model is ready."""
    _state(request).registry.get(model, version)
    return JSONResponse({"name": model, "ready": True})


@router.get("/models/{model}/config")
@router.get("/models/{model}/versions/{version}/config")
async def model_config(request: Request, model: str, version: str = "") -> JSONResponse:
    """Return the configuration of a model, in the form of Triton's model configuration."""
    return JSONResponse(metadata.model_config(_state(request).registry.get(model, version)))


@router.get("/models/{model}/stats")
@router.get("/models/{model}/versions/{version}/stats")
async def model_statistics(request: Request, model: str, version: str = "") -> JSONResponse:
    """Return the number of requests to a model since the start, and their durations."""
    registry = _state(request).registry
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
    return EndpointResponse(request.app.state.endpoints)


@router.post("/repository/index")
async def repository_index(request: Request) -> JSONResponse:
    """Return each model and version that is served or in the repository, and its state."""
    state = _state(request)
    if state.repository is not None:
        await state.repository.discover()
    wanted = await _document(request)
    ready_only = wanted.get("ready", False) is True
    return JSONResponse(metadata.repository_index(state.registry, ready_only=ready_only))


@router.post("/repository/models/{model}/load")
async def load_model(request: Request, model: str) -> Response:
    """Load the versions of a model from the repository, or load them again."""
    repository = _repository(_state(request))
    await _refuse_own_files(request)
    await repository.load(model)
    return Response()


@router.post("/repository/models/{model}/unload")
async def unload_model(request: Request, model: str) -> Response:
    """Unload a model; requests that are being computed are answered."""
    repository = _repository(_state(request))
    await _refuse_own_files(request)
    await repository.unload(model)
    return Response()


async def _document(request: Request) -> dict[str, Any]:
    """Return the body of a request to the repository; an empty body is an empty object."""
    state = _state(request)
    exchange = Exchange(request.scope, request.receive, _nowhere)
    with state.pipeline.budget.permit(exchange.client) as permit:
        body = await exchange.body(DOCUMENT, state.settings.body_seconds, permit)
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
    """Discard messages: the exchange only receives the body."""


def _state(request: Request) -> ServiceState:
    state: ServiceState = request.app.state.service
    return state


def _repository(state: ServiceState) -> RepositoryControl:
    if state.repository is None:
        raise ControlOff("there is no model repository: set GATEWAVE_REPOSITORY")
    return state.repository
