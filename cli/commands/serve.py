"""`gatewave serve`: the HTTP service."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from gatewave.cli.errors import UsageError, needing
from gatewave.service.system.devices import Device

if TYPE_CHECKING:
    from gatewave.service.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0 lets the system choose.")
    ] = None,
    artifacts: Annotated[
        Path | None, typer.Option(help="Folder that `gatewave export` wrote.")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Device for computing.")] = None,
    worker_count: Annotated[
        int | None, typer.Option("--workers", help="Worker processes that share the port.")
    ] = None,
) -> None:
    """Serve the exported activations over HTTP until interrupted.

    All settings can come from the environment: GATEWAVE_HOST, GATEWAVE_PORT, and so on.

    Examples:

        gatewave serve --artifacts artifacts --port 0 --device cpu
    """
    with needing("cpu"):
        from gatewave.service.observability.logs import configure_logging
    given = {"host": host, "port": port, "artifacts": artifacts, "device": device}
    settings = _settings(workers=worker_count, **given)
    configure_logging(settings.log_level)
    # The first process of a container ignores signals that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    _serve(settings)


def _serve(settings: Settings) -> NoReturn:
    """Replace this process by the supervisor, which serves until a signal ends it."""
    from gatewave.service.processes import launch
    from gatewave.service.security.exposure import refuse_exposure
    from gatewave.service.security.keys import configured
    from gatewave.service.system import cpus, sockets, tls

    metrics_host = settings.metrics_host or settings.host
    keys = configured(settings.keys, settings.keys_file)
    for host in {settings.host, metrics_host}:
        refuse_exposure(
            settings.published_host or host, keys=keys, allow_anonymous=settings.allow_anonymous
        )
    launch.check_worker_settings(settings)
    tls.context(settings)  # workers read the files again; errors are reported before they start
    listeners = sockets.bind(settings.host, settings.port, settings.workers)
    if settings.metrics_port is not None:
        free = sockets.free_port(metrics_host, settings.metrics_port)
        settings = settings.model_copy(update={"metrics_port": free})
    launch.exec_supervisor(launch.worker_settings(settings, cpus.available()), listeners)


def _settings(**options: Any) -> Settings:
    from pydantic import ValidationError

    from gatewave.service.codecs.validation import from_pydantic
    from gatewave.service.settings import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise UsageError(str(from_pydantic(error.errors(include_url=False)))) from error
