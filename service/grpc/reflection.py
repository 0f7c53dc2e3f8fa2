"""gRPC reflection of the services and their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gatewave.service.grpc.admission import short
from gatewave.service.grpc.handlers import Handler, Handlers
from gatewave.service.grpc.messages import parsed
from gatewave.service.grpc.paths import REFLECTION
from gatewave.service.grpc.streams import Context, Stream

Request: Any = reflection_pb2.ServerReflectionRequest


class Reflection:
    """Reflection by grpcio's own servicer, in bounded streams."""

    def __init__(self, handlers: Handlers, services: tuple[str, ...]) -> None:
        self.handlers = handlers
        names = (*services, REFLECTION.full_name)
        self.servicer = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]

    def by_path(self) -> dict[str, Handler]:
        """Return the handler of the service's only method."""
        path = f"/{REFLECTION.full_name}/ServerReflectionInfo"
        behaviour = self.handlers.contained(path, self._answer)
        return {path: grpc.stream_stream_rpc_method_handler(behaviour)}

    async def _answer(self, context: Context) -> None:
        reflections = self.handlers.intake.reflections
        async with reflections.one(context) as stream:
            requests = _requests(stream, context)
            async for answer in self.servicer.ServerReflectionInfo(requests, context):
                # A caller that reads no answers keeps its place no longer than one that asks no
                # questions.
                async with stream.waiting():
                    await context.write(answer.SerializeToString())


async def _requests(stream: Stream, context: Context) -> AsyncIterator[Any]:
    while isinstance(data := await stream.next(context), bytes):
        yield parsed(Request, short(data))
