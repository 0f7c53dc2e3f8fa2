"""Who may call what, over gRPC: the keys are those of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import grpc

from gatewave.service.errors import HttpUnsupported, KeyMissing, ScopeMissing, ServiceError
from gatewave.service.grpc.call_log import headers_of
from gatewave.service.grpc.handlers import Handler, Handlers
from gatewave.service.grpc.paths import ADMIN, PUBLIC
from gatewave.service.quoting import Words
from gatewave.service.security.keys import Keys, Right

Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]"


class Access(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Lets nobody go further who has no key for what is called, before any of it is read."""

    def __init__(self, keys: Keys, handlers: Handlers) -> None:
        self.keys = keys
        self.handlers = handlers

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        path = handler_call_details.method
        if path in PUBLIC:
            return await continuation(handler_call_details)
        refused = self._refused(path, handler_call_details)
        if refused is not None:
            return self.handlers.refusal(path, refused)
        handler: Handler | None = await continuation(handler_call_details)
        if handler is None:
            return self.handlers.refusal(path, _unserved())
        return handler

    def _refused(self, path: str, details: grpc.HandlerCallDetails) -> ServiceError | None:
        """Return the error that denies the caller ``path``, if there is one."""
        right: Right = "admin" if path in ADMIN else "infer"
        try:
            self.keys.check(headers_of(details.invocation_metadata or ()), right)
        except (KeyMissing, ScopeMissing) as error:
            return error
        return None


def _unserved() -> ServiceError:
    expected = "a method of one of the services that reflection lists"
    return HttpUnsupported.at("path", expected, Words("another"))
