"""gRPC reflection of the services and their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gatewave.service.grpc.admission import check_control_length
from gatewave.service.grpc.handlers import Handler, Handlers
from gatewave.service.grpc.message_stream import Context, MessageStream
from gatewave.service.grpc.messages import parsed
from gatewave.service.grpc.paths import REFLECTION

Request: Any = reflection_pb2.ServerReflectionRequest


class Reflection:
    """Reflection by grpcio's own servicer, in a bounded number of streams."""

    def __init__(self, handlers: Handlers, services: tuple[str, ...]) -> None:
        self.handlers = handlers
        names = (*services, REFLECTION.full_name)
        self.servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]

    def by_path(self) -> dict[str, Handler]:
        """Return the handler of the service's only method."""
        path = f"/{REFLECTION.full_name}/ServerReflectionInfo"
        behaviour = self.handlers.behaviour(path, self._respond)
        return {path: grpc.stream_stream_rpc_method_handler(behaviour)}

    async def _respond(self, context: Context) -> None:
        admission = self.handlers.admission
        async with admission.stream(context, admission.reflection) as stream:
            requests = _requests(stream, context)
            async for response in self.servicer.ServerReflectionInfo(requests, context):
                # `write` waits for a client that does not read. The stream is idle meanwhile, and
                # can be evicted like one whose client sends no request.
                async with stream.idle():
                    await context.write(response.SerializeToString())


async def _requests(stream: MessageStream, context: Context) -> AsyncIterator[Any]:
    while isinstance(data := await stream.next(context), bytes):
        yield parsed(Request, check_control_length(data))
