"""The ASGI application: its state, routes and middleware."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema
from starlette.types import ASGIApp

from gatewave.service.activate.schemas import ActivateRequest, BatchRequest
from gatewave.service.http import problems
from gatewave.service.http.connection.read_queue import FastPath
from gatewave.service.http.endpoints import EndpointMiddleware, EndpointTable
from gatewave.service.http.fast_path import answering
from gatewave.service.http.middleware.authentication import AuthenticationMiddleware
from gatewave.service.http.middleware.head_as_get import HeadAsGet
from gatewave.service.http.middleware.malformed_requests import MalformedRequests
from gatewave.service.http.middleware.query import BoundedQuery
from gatewave.service.http.middleware.request_context import RequestContext
from gatewave.service.http.middleware.root_path import RootPath, under
from gatewave.service.http.middleware.security_headers import SecurityHeaders
from gatewave.service.http.routes import activate, activations, health, metrics, v2
from gatewave.service.http.routes.activate import ActivateEndpoint, BatchEndpoint
from gatewave.service.http.routes.v2 import InferEndpoint
from gatewave.service.http.schemas import InferBody, ProblemDocument
from gatewave.service.observability.access_log import access_logger
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState

DESCRIPTION = """
Evaluates activation functions, their exact derivatives and their vector-Jacobian products, in
batches, from certified ONNX graphs. Errors are problem details (RFC 9457).
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; without ``settings``, they are read from the environment.

    All artifacts are loaded and checked before this returns.

    Raises:
        DeviceUnavailable: The requested device does not work.
        KernelsUnavailable: The kernels are required, and cannot be loaded for all artifacts.
        ArtifactInvalid: The artifacts folder is empty, or a file in it cannot be served.
    """
    settings = settings or Settings()
    state = ServiceState.start(settings)
    app: FastAPI = FastAPIOffline(
        title="Gatewave",
        version=version("gatewave"),
        description=DESCRIPTION,
        redirect_slashes=False,
        # The service has its own. FastAPI's search for a provider costs each request 10 µs.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        responses={"4XX": {"model": ProblemDocument, "description": "The error, and its fields."}},
    )
    app.state.service = state
    app.state.endpoints = EndpointTable(
        [ActivateEndpoint(state), BatchEndpoint(state), InferEndpoint(state)]
    )
    problems.install(app)
    for room in (activate, activations, health, metrics, v2):
        app.include_router(room.router)
    app.add_middleware(BoundedQuery, refuse=problems.answer)
    app.add_middleware(HeadAsGet)
    app.add_middleware(SecurityHeaders)
    routes = app.build_middleware_stack
    app.build_middleware_stack = lambda: _front(app, routes(), state)  # type: ignore[method-assign]
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _front(app: FastAPI, routes: ASGIApp, state: ServiceState) -> ASGIApp:
    """Return the middleware that each request passes before the router of FastAPI."""
    settings = state.settings
    endpoints = EndpointMiddleware(routes, endpoints=app.state.endpoints)
    access = AuthenticationMiddleware(
        endpoints, keys=state.keys, refuse=problems.answer, rate=state.rate
    )
    front = RequestContext(
        MalformedRequests(access, refuse=problems.answer),
        failure=problems.internal,
        access_log=settings.access_log,
        tracer=state.tracer,
    )
    return RootPath(front, settings.root_path) if settings.root_path else front


def fast_path(app: FastAPI) -> FastPath | None:
    """Return the fast path of ``app``; None with traces, because it records none."""
    state: ServiceState = app.state.service
    settings = state.settings
    if state.tracer is not None:
        return None
    answer = answering(
        app.state.endpoints,
        keys=state.keys,
        log_request=access_logger(enabled=settings.access_log),
        most=min(settings.inline_bytes, settings.max_json_bytes, settings.max_body_bytes),
        rate=state.rate,
    )
    return under(settings.root_path, answer) if settings.root_path else answer


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return FastAPI's OpenAPI document, with the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        root_path = app.state.service.settings.root_path
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            servers=[{"url": root_path}] if root_path else None,
        )
        _, schemas = models_json_schema(
            [
                (ActivateRequest, "validation"),
                (BatchRequest, "validation"),
                (InferBody, "validation"),
            ],
            ref_template="#/components/schemas/{model}",
        )
        document["components"]["schemas"] |= schemas["$defs"]
        app.openapi_schema = document
    return app.openapi_schema
