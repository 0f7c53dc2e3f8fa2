"""GET /metrics, for Prometheus."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from gatewave.service.errors import NameUnknown
from gatewave.service.http import exposition, metrics_port

router = APIRouter(tags=["health"])

TEXT = {"schema": {"type": "string"}}


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "The metrics of all workers.",
            "content": {"text/plain": TEXT, "application/openmetrics-text": TEXT},
        }
    },
)
async def metrics(request: Request) -> Response:
    """Return all metrics in the text format of Prometheus, or in OpenMetrics if accepted."""
    settings = request.app.state.service.settings
    if settings.metrics_port is not None and metrics_port.MARK not in request.scope:
        expected = "another: /metrics is served on GATEWAVE_METRICS_PORT only"
        raise NameUnknown.at("path", expected, request.url.path)
    registry = exposition.families(request.app.state.service)
    accept = request.headers.get("accept", "")
    # In a thread: thousands of lines take milliseconds, in which other requests are answered.
    text, media_type = await to_thread.run_sync(exposition.encoded, registry, accept)
    return Response(text, headers={"content-type": media_type, "cache-control": "no-store"})
