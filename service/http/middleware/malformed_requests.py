"""Answers to requests that the connection has rejected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.errors import ServiceError
from gatewave.service.http.connection.malformed import REFUSED


class MalformedRequests:
    """Pure ASGI middleware that answers requests which the connection found invalid.

    Args:
        refuse: Returns the error answer of a path's protocol.
    """

    def __init__(self, app: ASGIApp, *, refuse: Callable[[str, ServiceError], ASGIApp]) -> None:
        self.app = app
        self.refuse = refuse

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine: a further one costs each request more than the check itself.
        error = scope.get(REFUSED)
        if error is None:
            return self.app(scope, receive, send)
        if not isinstance(error, ServiceError):
            raise error
        return self.refuse(scope["path"], error)(scope, receive, send)
