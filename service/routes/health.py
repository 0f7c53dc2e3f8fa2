"""GET /livez and /readyz, for whoever starts and watches the process."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from service.runtime import Runtime
from service.schemas import Liveness, Readiness

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Liveness:
    """The process runs, and its event loop turns."""
    return Liveness(status="alive")


@router.get("/readyz", responses={503: {"model": Readiness, "description": "It is ending."}})
async def readyz(request: Request, response: Response) -> Readiness:
    """Every artifact is loaded, and has answered its own example rightly, on this provider.

    A service that was told to end still answers requests, and is not ready: send no more.
    """
    runtime: Runtime = request.app.state.runtime
    if not runtime.ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(
        status="ready" if runtime.ready else "draining",
        device=runtime.settings.device,
        provider=runtime.engine.provider,
        kernels=runtime.engine.kernels.implementation,
        threads=runtime.engine.threads,
        activations=list(runtime.catalogue.entries),
    )
