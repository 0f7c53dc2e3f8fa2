"""`gatewave serve`: the HTTP service."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from pydantic import ValidationError

from gatewave.errors import CommandError, UsageError
from service.app import create_app
from service.errors import from_pydantic
from service.settings import Device, Settings
from service.telemetry import configure_logging

log = logging.getLogger(__name__)

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
    app = create_app(settings)
    with _listening(settings.host, settings.port) as listener:
        address, bound = listener.getsockname()[:2]
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        # uvicorn stops on SIGTERM by itself, and then raises it again for whoever listens.
        signal.signal(signal.SIGTERM, lambda *_: None)
        log.info("serving on http://%s:%d", address, bound)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    log.info("stopped")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _settings(**options: Any) -> Settings:
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(str(from_pydantic(error.errors(include_url=False)))) from error
