"""Who may call what, over gRPC: the keys are those of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from service.errors import KeyMissing, ScopeMissing
from service.rpc.account import headers_of
from service.rpc.handlers import Handlers
from service.rpc.paths import ADMIN, PUBLIC
from service.security import Keys, Right

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
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
        right: Right = "admin" if path in ADMIN else "infer"
        try:
            self.keys.check(headers_of(handler_call_details.invocation_metadata or ()), right)
        except (KeyMissing, ScopeMissing) as error:
            return self.handlers.refusal(path, error)
        return await continuation(handler_call_details)
