"""The gRPC server: it starts and stops with the application, on its event loop."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_reflection.v1alpha import reflection

from service.listening import PortUnavailable, bind
from service.rpc.access import Access
from service.rpc.handlers import Handlers
from service.rpc.health import Health
from service.rpc.paths import HEALTH, SERVICE
from service.runtime import Runtime
from service.security import Keys
from service.settings import Settings

SERVICES = (SERVICE.full_name, HEALTH.full_name)

ROOM = 64
"""How many calls may be open besides those that compute or are being received: of reflection, or
about to be refused."""

KEEPALIVE_MILLISECONDS = 60_000
"""After so long a silence a caller is asked whether he is still there."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        port: Which one it has, if the system chose.
    """

    port: int
    server: grpc.aio.Server
    handlers: Handlers

    async def stop(self, seconds: float) -> None:
        """Accept no more, and let what is under way end within ``seconds``."""
        if not self.handlers.stopping.done():
            self.handlers.stopping.set_result(None)
        await self.server.stop(seconds)


async def start(runtime: Runtime, port: int) -> Server:
    """Listen on ``port``.

    Raises:
        PortUnavailable: It is taken.
    """
    settings = runtime.settings
    handlers = Handlers(runtime)
    server = grpc.aio.server(
        interceptors=[Access(Keys.parse(settings.keys), handlers)],
        options=_options(settings),
        maximum_concurrent_rpcs=settings.max_queue + handlers.intake.most_calls + ROOM,
    )
    health = Health(handlers, SERVICES)
    server.add_generic_rpc_handlers((handlers.generic(), health.generic()))
    reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)
    bound = _listen(server, settings, port)
    await server.start()
    log.info("serving gRPC on %s:%d", settings.host, bound)
    return Server(bound, server, handlers)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        # What may be sent is bounded before it is computed.
        ("grpc.max_send_message_length", -1),
        # Who is gone without a word does not keep what he was sent.
        ("grpc.keepalive_time_ms", KEEPALIVE_MILLISECONDS),
        # One worker alone must not share a port that somebody else has.
        ("grpc.so_reuseport", int(settings.workers > 1)),
    ]


def _listen(server: grpc.aio.Server, settings: Settings, port: int) -> int:
    _refuse_taken(settings, port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{port}"
    try:
        if settings.tls_certificate is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(settings, settings.tls_certificate))
    except (RuntimeError, OSError) as error:
        raise PortUnavailable(f"gRPC cannot listen on {address}: {error}") from error


def _refuse_taken(settings: Settings, port: int) -> None:
    """Say what is wrong with a port in the system's words; gRPC's do not tell."""
    if settings.workers > 1:
        return  # The other workers have it, and rightly.
    try:
        (listener,) = bind(settings.host, port)
    except PortUnavailable as error:
        raise PortUnavailable(f"gRPC {error}") from error
    listener.close()


def _credentials(settings: Settings, certificate: Path) -> grpc.ServerCredentials:
    key = settings.tls_key or certificate
    pair = (key.read_bytes(), certificate.read_bytes())
    ca = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)
