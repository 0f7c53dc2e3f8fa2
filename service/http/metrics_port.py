"""Application of the separate port for /metrics and health checks.

It is the main application behind a filter of paths: the port demands the same keys, and its errors
and log lines are the same.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.errors import NameUnknown
from gatewave.service.http import problems
from gatewave.service.http.connection.malformed import REFUSED

MARK = "gatewave.metrics_port"
"""Key of the scope of a request to the separate port: /metrics of the main port answers 404."""

SERVED = ("/metrics", "/livez", "/readyz")
"""Paths that the port answers."""


class MetricsOnly:
    """Pure ASGI middleware that passes on the port's paths, and answers all others with 404."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in SERVED or REFUSED in scope:
            await self.app({**scope, MARK: True}, receive, send)
            return
        error = NameUnknown.at("path", f"one of {', '.join(SERVED)}", scope["path"])
        await problems.answer(scope["path"], error)(scope, receive, send)
