"""Id, log line, metrics and trace of each HTTP request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gatewave.service.http.paths import ROUTE
from gatewave.service.observability import metrics
from gatewave.service.observability.access_log import access_logger, shortened
from gatewave.service.observability.request_ids import HEADER_BYTES, identity_of, request_id
from gatewave.service.observability.tracing.trace import Trace, Tracer

log = logging.getLogger(__name__)


class RequestContext:
    """Pure ASGI middleware that gives each request its id, observes it, and contains its failure.

    Args:
        failure: Returns the answer of a path's protocol to a request that failed.
        access_log: Whether each request is logged.
        tracer: The tracer of requests, if they are traced.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        failure: Callable[[str], ASGIApp],
        access_log: bool,
        tracer: Tracer | None = None,
    ) -> None:
        self.app = app
        self.failure = failure
        self.log_request = access_logger(enabled=access_log)
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        identity = identity_of(dict(scope["headers"]).get(HEADER_BYTES))
        token = request_id.set(identity)
        trace = self._trace(scope)
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER_BYTES, identity.encode())]
            await send(message)

        try:
            await self.app(scope, receive, tagged)
        except ClientDisconnect:
            log.info("client disconnected before the answer")
        except Exception:
            log.exception("request failed")
            if not status:
                await self.failure(scope["path"])(scope, receive, tagged)
        finally:
            self._record(scope, identity, status, time.perf_counter() - began, trace)
            request_id.reset(token)

    def _trace(self, scope: Scope) -> Trace | None:
        if self.tracer is None:
            return None
        return self.tracer.begin(_span_method(scope["method"]), scope["headers"])

    def _record(
        self, scope: Scope, identity: str, status: int, seconds: float, trace: Trace | None
    ) -> None:
        """Log, count, time and trace the outcome of a request."""
        if self.log_request is not None:
            self.log_request(identity, scope["method"], scope["path"], status, seconds)
        route = _route(scope)
        metrics.observe_http(route, scope["method"], status, seconds)
        if trace is not None:
            _end(trace, scope, route, status)


def _route(scope: Scope) -> str:
    """Return the template of the request's route. Paths are no labels: callers invent them."""
    route = scope.get("route")
    if route is not None:
        template: str = route.path
        return template
    if ROUTE in scope:
        endpoint: str = scope[ROUTE]
        return endpoint
    # Endpoints without a route of FastAPI are folders of files, and the OpenAPI document.
    return scope["root_path"] or "/openapi.json" if "endpoint" in scope else metrics.UNMATCHED


def _end(trace: Trace, scope: Scope, route: str, status: int) -> None:
    """End ``trace`` with the attributes of OpenTelemetry's conventions for HTTP servers."""
    method = metrics.method_label(scope["method"], other="_OTHER")
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "url.path": shortened(scope["path"]),
        "url.scheme": scope["scheme"],
        "gatewave.request_id": request_id.get() or "",
    }
    if status:
        attributes["http.response.status_code"] = status
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    name = f"{_span_method(scope['method'])} {route}"
    trace.end(name, failed=failed, attributes=attributes)


def _span_method(method: str) -> str:
    """Return the method for a span name: OpenTelemetry's HTTP conventions, section Name."""
    return metrics.method_label(method, other="HTTP")
