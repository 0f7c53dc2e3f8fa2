"""The gRPC server: it starts and stops with the application, on its event loop."""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass

import grpc

from gatewave.service.grpc.authentication import Access
from gatewave.service.grpc.core import AioServer, Core
from gatewave.service.grpc.handlers import Handlers
from gatewave.service.grpc.health import Health
from gatewave.service.grpc.paths import HEALTH, SERVICE
from gatewave.service.grpc.reflection import Reflection
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState
from gatewave.service.system.sockets import PortUnavailable, bind
from gatewave.service.system.tls import Certificates, Files

SERVICES = (SERVICE.full_name, HEALTH.full_name)

ROOM = 1024
"""Open calls beyond those that compute or have a place: their answers are being sent, which a
caller can hold up by not reading."""

PENDING = 1 << 14
"""Calls that may wait to be accepted. Beyond 1000, gRPC's core would cancel calls at random, of any
connection, so that a burst of one caller would end calls of others."""

HANDSHAKE_SECONDS = 20
"""Time limit for the handshakes of a connection, TLS included; gRPC's default is two minutes."""

OTHER_DESCRIPTORS = 64
"""File descriptors that files, processes, and a few connections over HTTP take besides."""

GOODBYE_SECONDS = 1.0
"""How long a client may take, when the server stops, to close a connection without calls. The core
would wait twenty seconds for its answer."""

FOR_EVER = 2**31 - 1
"""gRPC's value for no limit, in milliseconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers.

    Attributes:
        port: Which one it has, if the system chose.
    """

    port: int
    server: AioServer
    handlers: Handlers

    async def stop(self, seconds: float) -> None:
        """Accept no more, and let what is under way end within ``seconds``."""
        if not self.handlers.stopping.done():
            self.handlers.stopping.set_result(None)
        stopping = asyncio.ensure_future(self.server.stop(seconds))
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=GOODBYE_SECONDS)
            if not self.server.calls:
                # Only connections are left whose clients do not answer that they are to close.
                await self.server.stop(None)
        await stopping


async def start(state: ServiceState, port: int) -> Server:
    """Listen on ``port``.

    Raises:
        PortUnavailable: It is taken.
    """
    settings = state.settings
    handlers = Handlers(state)
    by_path = {
        **handlers.by_path(),
        **Health(handlers, SERVICES).by_path(),
        **Reflection(handlers, SERVICES).by_path(),
    }
    access = Access(state.keys, handlers)
    most_calls = settings.max_queue + handlers.intake.most_calls + ROOM
    server = AioServer(Core((access,), by_path, _options(settings), most_calls))
    bound = _listen(server, state, port)
    await server.start()
    log.info("serving gRPC on %s:%d", settings.host, bound)
    return Server(bound, server, handlers)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        # What may be sent is bounded before it is computed.
        ("grpc.max_send_message_length", -1),
        # Calls that were reset count until they have ended here, so bursts of resets
        # (CVE-2023-44487) open no more of them.
        ("grpc.max_concurrent_streams", settings.grpc_max_streams),
        ("grpc.server.max_pending_requests", PENDING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING),
        ("grpc.max_allowed_incoming_connections", _most_connections()),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.grpc_idle_seconds)),
        ("grpc.max_connection_age_ms", _milliseconds(settings.grpc_max_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.drain_seconds)),
        # A connection that broke silently does not keep unread answers in memory.
        ("grpc.keepalive_time_ms", _milliseconds(settings.grpc_keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.grpc_keepalive_timeout_seconds)),
        # Limits on pings of callers.
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(settings.grpc_min_ping_seconds),
        ),
        ("grpc.http2.max_ping_strikes", settings.grpc_max_ping_strikes),
        # One worker alone must not share a port that somebody else has.
        ("grpc.so_reuseport", int(settings.workers > 1)),
    ]


def _most_connections() -> int:
    """Return how many connections there may be: HTTP, with its health checks, has as many.

    gRPC's core would take all file descriptors, and close no idle connection for a new one.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < 0:  # There is no limit.
        return FOR_EVER
    return min(FOR_EVER, max(descriptors // 2 - OTHER_DESCRIPTORS, descriptors // 4))


def _milliseconds(seconds: float | None) -> int:
    """Return a time in milliseconds for gRPC; None means no limit."""
    return FOR_EVER if seconds is None else min(FOR_EVER, round(seconds * 1000))


def _listen(server: AioServer, state: ServiceState, port: int) -> int:
    settings = state.settings
    _refuse_taken(settings, port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{port}"
    try:
        if settings.tls_certificate is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(state.certificates))
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


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials that use the most recently read files at each handshake."""
    shown = certificates.files

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if certificates.files is shown:
            return None
        shown = certificates.files
        return _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        fetch,  # type: ignore[arg-type]  # None is "unchanged", says its documentation
        require_client_authentication=shown.ca is not None,
    )


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.certificate)], files.ca)
