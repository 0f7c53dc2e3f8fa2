"""`gatewave serve`: the HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import ValidationError

from gatewave.errors import UsageError
from service.app import create_app
from service.errors import from_pydantic
from service.settings import Device, Settings
from service.telemetry import configure_logging

GRACE_SECONDS = 30
"""How long requests under way may take to end after SIGTERM."""


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.")] = None,
    artifacts: Annotated[Path | None, typer.Option(help="What `gatewave export` wrote.")] = None,
    device: Annotated[Device | None, typer.Option(help="Where to compute.")] = None,
) -> None:
    """Serve the exported activations over HTTP, until interrupted.

    Options that are not given come from the environment: GATEWAVE_HOST, GATEWAVE_PORT, and so on.

    Example: `gatewave serve --port 9000 --device cpu`
    """
    settings = _settings(host=host, port=port, artifacts=artifacts, device=device)
    configure_logging(settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _settings(**options: Any) -> Settings:
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(str(from_pydantic(error.errors(include_url=False)))) from error
