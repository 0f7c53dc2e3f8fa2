"""GET /livez and /readyz, for whoever starts and watches the process."""

from __future__ import annotations

from fastapi import APIRouter, Request

from service.runtime import Runtime
from service.schemas import Liveness, Readiness

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> Liveness:
    """The process runs, and its event loop turns."""
    return Liveness(status="alive")


@router.get("/readyz")
async def readyz(request: Request) -> Readiness:
    """Every artifact is loaded, and has answered its own example rightly, on this provider."""
    runtime: Runtime = request.app.state.runtime
    return Readiness(
        status="ready",
        device=runtime.settings.device,
        provider=runtime.engine.provider,
        threads=runtime.engine.threads,
        activations=list(runtime.catalogue.entries),
    )
