"""GET /livez and /readyz, for orchestrators."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from gatewave.service.http.schemas import Liveness, Readiness, ReadinessOfModels
from gatewave.service.state import ServiceState

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Liveness:
    """Return 200 while the process and its event loop run."""
    return Liveness(status="alive")


@router.get(
    "/readyz",
    responses={503: {"model": Readiness, "description": "The service loads models, or ends."}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Return 200 once every artifact is loaded and every model of the repository was tried.

    Until then the status is `loading`: activations and ready models answer already, and
    `models.loading` names the others. An ending service is `draining`: it still answers requests,
    but clients should send no new ones.
    """
    state: ServiceState = request.app.state.service
    if not state.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(
        status=_status(state),
        device=state.settings.device,
        provider=state.engine.provider,
        kernels=state.engine.kernels.implementation,
        threads=state.engine.threads,
        activations=list(state.catalogue.entries),
        models=ReadinessOfModels(loading=state.registry.loading()),
    )


def _status(state: ServiceState) -> str:
    if state.draining:
        return "draining"
    return "loading" if state.loading else "ready"
