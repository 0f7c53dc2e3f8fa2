"""gRPC's own health checking protocol, as the service is ready or not."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.runtime import Runtime

POLL_SECONDS = 0.25
"""How often readiness is looked at for those who watch it."""

Status: Any = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it comes untyped
    """Tells of the whole server, and of the services by their names.

    Attributes:
        services: The names that may be asked for; the empty one is the server's.
        stopping: Done when the server stops: whoever watches is let go.
    """

    def __init__(
        self, runtime: Runtime, services: tuple[str, ...], stopping: asyncio.Future[None]
    ) -> None:
        self.runtime = runtime
        self.services = ("", *services)
        self.stopping = stopping

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:
        if request.service not in self.services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return Status(status=self._status(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        said = None
        while not self.stopping.done():
            status = self._status(request.service)
            if status != said:
                await context.write(Status(status=status))
                said = status
            await asyncio.wait({self.stopping}, timeout=POLL_SECONDS)

    def _status(self, service: str) -> Any:
        if service not in self.services:
            return Status.SERVICE_UNKNOWN
        return Status.SERVING if self.runtime.ready else Status.NOT_SERVING
