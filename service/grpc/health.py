"""gRPC's health checking protocol: the readiness of the service."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from gatewave.service.errors import NameUnknown
from gatewave.service.grpc.handlers import Handler, Handlers
from gatewave.service.grpc.message_stream import Context
from gatewave.service.grpc.messages import parsed
from gatewave.service.grpc.paths import HEALTH

POLL_SECONDS = 0.25
"""Interval in seconds at which the readiness is compared with the last one sent to a watcher."""

Request: Any = health_pb2.HealthCheckRequest
Response: Any = health_pb2.HealthCheckResponse


class HealthService:
    """Health of the whole server, and of its services by name.

    The servicer of grpcio-health-checking is not used. It waits for the message of a call without a
    time limit, so calls without a message would block it.

    Attributes:
        services: The names that may be asked for; the empty name stands for the server.
    """

    def __init__(self, handlers: Handlers, services: tuple[str, ...]) -> None:
        self.handlers = handlers
        self.services = ("", *services)

    def by_path(self) -> dict[str, Handler]:
        """Return the handlers of the service's methods by path."""
        behaviour = self.handlers.behaviour
        check, watch = f"/{HEALTH.full_name}/Check", f"/{HEALTH.full_name}/Watch"
        return {
            check: grpc.stream_unary_rpc_method_handler(behaviour(check, self._check)),
            watch: grpc.stream_stream_rpc_method_handler(behaviour(watch, self._watch)),
        }

    async def _check(self, context: Context) -> bytes:
        service = await self._requested_service(context)
        if service not in self.services:
            expected = f"one of {', '.join(filter(None, self.services))}"
            raise NameUnknown.at("service", expected, service)
        return self._response(service)

    async def _watch(self, context: Context) -> None:
        """Send the status and its changes, until the server stops or the watcher is evicted."""
        service = await self._requested_service(context)
        # The end of a watch is no error for the client, which calls again.
        with contextlib.suppress(TimeoutError):
            async with self.handlers.admission.watchers.idle_slot(context.peer()):
                await self._send_changes(service, context)

    async def _send_changes(self, service: str, context: Context) -> None:
        stopping, sent = self.handlers.stopping, b""
        while not stopping.done():
            response = self._response(service)
            if response != sent:
                await context.write(response)
                sent = response
            await asyncio.wait({stopping}, timeout=POLL_SECONDS)

    async def _requested_service(self, context: Context) -> str:
        admission = self.handlers.admission
        data = await admission.control_message(context, admission.public)
        service: str = parsed(Request, data).service
        return service

    def _response(self, service: str) -> bytes:
        response: bytes = Response(status=self._status(service)).SerializeToString()
        return response

    def _status(self, service: str) -> Any:
        if service not in self.services:
            return Response.SERVICE_UNKNOWN
        return Response.SERVING if self.handlers.state.ready else Response.NOT_SERVING
