"""GET /livez and /readyz, for whoever starts and watches the process."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from gatewave.service.http.schemas import Liveness, Readiness, ReadinessOfModels
from gatewave.service.state import Runtime

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Liveness:
    """The process runs, and its event loop turns."""
    return Liveness(status="alive")


@router.get(
    "/readyz",
    responses={
        503: {"model": Readiness, "description": "The service is loading models, or ending."}
    },
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Return 200 once every artifact is loaded and every model of the repository was tried.

    Until then the status is `loading`: activations and ready models answer already, and
    `models.loading` names the others. An ending service is `draining`: it still answers requests,
    but clients should send no new ones.
    """
    runtime: Runtime = request.app.state.runtime
    if not runtime.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(
        status=_status(runtime),
        device=runtime.settings.device,
        provider=runtime.engine.provider,
        kernels=runtime.engine.kernels.implementation,
        threads=runtime.engine.threads,
        activations=list(runtime.catalogue.entries),
        models=ReadinessOfModels(loading=runtime.registry.loading()),
    )


def _status(runtime: Runtime) -> str:
    if runtime.draining:
        return "draining"
    return "loading" if runtime.loading else "ready"
