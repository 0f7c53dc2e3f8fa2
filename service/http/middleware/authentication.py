"""Checks of API keys and of the request rate, before a request is routed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.errors import ClientLimited, KeyMissing, ScopeMissing, ServiceError
from gatewave.service.http.paths import ADMIN, PUBLIC
from gatewave.service.security.clients import CLIENT, RateLimiter, client_of
from gatewave.service.security.keys import Keys, presented


class AuthenticationMiddleware:
    """Pure ASGI middleware that rejects requests without a sufficient key.

    Args:
        keys: The accepted keys and their scopes.
        refuse: Returns the error answer of a path's protocol.
        rate: Limit on the requests of each client, if there is one.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        refuse: Callable[[str, ServiceError], ASGIApp],
        rate: RateLimiter | None = None,
    ) -> None:
        self.app = app
        self.keys = keys
        self.refuse = refuse
        self.rate = rate
        self._is_open = rate is None and not keys.required

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not a coroutine: without keys, a further one costs more than the check itself.
        if scope["type"] == "http":
            path: str = scope["path"]
            if (not self._is_open and path not in PUBLIC) or path.startswith(ADMIN):
                return self._guarded(scope)(scope, receive, send)
        return self.app(scope, receive, send)

    def _guarded(self, scope: Scope) -> ASGIApp:
        try:
            self._check(scope)
        except (KeyMissing, ScopeMissing, ClientLimited) as error:
            return self.refuse(scope["path"], error)
        return self.app

    def _check(self, scope: Scope) -> None:
        """Check the key of a request, and count the request.

        Raises:
            KeyMissing: The request has no known key.
            ScopeMissing: The key does not allow the path.
            ClientLimited: The client exceeds its rate.
        """
        is_admin = scope["path"].startswith(ADMIN)
        try:
            if self.keys.required or is_admin:
                self.keys.check(scope["headers"], "admin" if is_admin else "infer")
            if self.keys.required:
                scope[CLIENT] = presented(scope["headers"])
        finally:
            # Requests without a known key count by address, because callers can invent keys.
            if self.rate is not None:
                self.rate.admit(client_of(scope))
