"""uvicorn's configuration for the service's connections."""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

import uvicorn

from gatewave.service.http.connection.connection import Connection
from gatewave.service.http.connection.connection_limits import (
    ConnectionLimits,
    raise_descriptor_limit,
)
from gatewave.service.http.connection.read_queue import FastPath, ReadQueue
from gatewave.service.http.connection.write_timeout import WRITE_TIMEOUT_SECONDS
from gatewave.service.settings import Settings

KEEP_ALIVE_SECONDS = 75
"""Seconds for which a connection may be idle. Load balancers close idle connections after a minute.
If the service closed them first, a request could meet a connection that was just closed."""


def configuration(
    app: Any,
    tls: ssl.SSLContext | None,
    fast_path: FastPath | None = None,
    write_timeout: float = WRITE_TIMEOUT_SECONDS,
    limits: ConnectionLimits | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration for ``app``, without its own logs and error answers.

    Args:
        app: The application.
        tls: The context for encrypted connections, if they are encrypted.
        fast_path: Function that may answer requests without ``app``.
        write_timeout: Seconds in which a client must read a part of its answer.
        limits: Limits on connections; None means as many as there are descriptors.
    """
    return uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # it makes one
            Connection,
            fast_path=fast_path,
            queue=ReadQueue(),
            write_timeout=write_timeout,
            limits=limits or ConnectionLimits(),
        ),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Raise the limit of descriptors, and return the limits on connections of this process."""
    raise_descriptor_limit()
    return ConnectionLimits(settings.max_connections, settings.client_connections)
