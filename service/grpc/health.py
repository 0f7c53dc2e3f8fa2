"""gRPC's own health checking protocol, as the service is ready or not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from gatewave.service.errors import NameUnknown
from gatewave.service.grpc.handlers import Handler, Handlers
from gatewave.service.grpc.messages import parsed
from gatewave.service.grpc.paths import HEALTH
from gatewave.service.grpc.streams import Context

POLL_SECONDS = 0.25
"""How often readiness is looked at for those who watch it."""

Request: Any = health_pb2.HealthCheckRequest
Status: Any = health_pb2.HealthCheckResponse


class Health:
    """Tells of the whole server, and of the services by their names.

    It is not the one that comes with gRPC, which waits for messages that never come.

    Attributes:
        services: The names that may be asked for; the empty one is the server's.
    """

    def __init__(self, handlers: Handlers, services: tuple[str, ...]) -> None:
        self.handlers = handlers
        self.services = ("", *services)

    def by_path(self) -> dict[str, Handler]:
        """Return the handlers of the service's methods."""
        contained = self.handlers.contained
        check, watch = f"/{HEALTH.full_name}/Check", f"/{HEALTH.full_name}/Watch"
        return {
            check: grpc.stream_unary_rpc_method_handler(contained(check, self._check)),
            watch: grpc.stream_stream_rpc_method_handler(contained(watch, self._watch)),
        }

    async def _check(self, context: Context) -> bytes:
        service = await self._asked(context)
        if service not in self.services:
            expected = f"one of {', '.join(filter(None, self.services))}"
            raise NameUnknown.at("service", expected, service)
        return self._said(service)

    async def _watch(self, context: Context) -> None:
        """Tell the status and its changes, until the server stops, or another gets the place."""
        service = await self._asked(context)
        with contextlib.suppress(TimeoutError):
            async with self.handlers.intake.watchers.place(context.peer()):
                await self._tell(service, context)

    async def _tell(self, service: str, context: Context) -> None:
        stopping, told = self.handlers.stopping, b""
        while not stopping.done():
            said = self._said(service)
            if said != told:
                await context.write(said)
                told = said
            await asyncio.wait({stopping}, timeout=POLL_SECONDS)

    async def _asked(self, context: Context) -> str:
        intake = self.handlers.intake
        service: str = parsed(Request, await intake.question(context, intake.public)).service
        return service

    def _said(self, service: str) -> bytes:
        said: bytes = Status(status=self._status(service)).SerializeToString()
        return said

    def _status(self, service: str) -> Any:
        if service not in self.services:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self.handlers.state.ready else Status.NOT_SERVING
