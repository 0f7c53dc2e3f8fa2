"""Authentication of gRPC calls, by the same keys as over HTTP."""

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


class Authentication(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Interceptor that rejects calls without a valid key before any message is read.

    Unknown paths are rejected here too, after the key was checked: a caller without a key cannot
    find out which methods exist.
    """

    def __init__(self, keys: Keys, handlers: Handlers) -> None:
        self.keys = keys
        self.handlers = handlers

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Return the handler of the call, or a handler that rejects it."""
        path = handler_call_details.method
        if path in PUBLIC:
            return await continuation(handler_call_details)
        error = self._denial(path, handler_call_details)
        if error is not None:
            return self.handlers.rejection(path, error)
        handler: Handler | None = await continuation(handler_call_details)
        if handler is None:
            return self.handlers.rejection(path, _unknown_path())
        return handler

    def _denial(self, path: str, details: grpc.HandlerCallDetails) -> ServiceError | None:
        """Return the error that denies the caller ``path``, if there is one."""
        right: Right = "admin" if path in ADMIN else "infer"
        try:
            self.keys.check(headers_of(details.invocation_metadata or ()), right)
        except (KeyMissing, ScopeMissing) as error:
            return error
        return None


def _unknown_path() -> ServiceError:
    expected = "a method of one of the services that reflection lists"
    return HttpUnsupported.at("path", expected, Words("another path"))
