"""Prefix of all paths, which a proxy in front of the service adds for callers.

A proxy may strip the prefix from requests, or pass them on unchanged: both are answered. Links in
answers have the prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.http.connection.head import Headers
from gatewave.service.http.connection.read_queue import Address, FastPath

PAGES = frozenset({"/docs", "/redoc"})
"""Pages whose links FastAPI makes from ``root_path``.

Other routes have no ``root_path``: Starlette finds files below a mount only if the path has the
prefix too.
"""


def stripped(prefix: str, path: str) -> str:
    """Return ``path`` without ``prefix``, if it has it."""
    if path == prefix:
        return "/"
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else path


class RootPath:
    """Pure ASGI middleware that removes the prefix from paths."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http":
            scope["path"] = stripped(self.prefix, scope["path"])
            if scope["path"] in PAGES:
                scope["root_path"] = self.prefix
        return self.app(scope, receive, send)


def under(prefix: str, answer: FastPath) -> FastPath:
    """Return ``answer`` for paths with and without ``prefix``."""

    def answered(  # noqa: PLR0917 - as `FastPath`
        path: str,
        headers: Headers,
        body: bytes,
        began: float,
        came: float,
        address: Address,
    ) -> tuple[bytes, bytes] | None:
        return answer(stripped(prefix, path), headers, body, began, came, address)

    return answered
