"""The gRPC server, which starts and stops with the application, on its event loop."""

from __future__ import annotations

import asyncio
import logging
import resource
from dataclasses import dataclass

import grpc

from gatewave.service.grpc.authentication import Authentication
from gatewave.service.grpc.core import AioServer, Core
from gatewave.service.grpc.handlers import Handlers
from gatewave.service.grpc.health import HealthService
from gatewave.service.grpc.paths import HEALTH, SERVICE
from gatewave.service.grpc.reflection import Reflection
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState
from gatewave.service.system.sockets import PortUnavailable, bind
from gatewave.service.system.tls import Certificates, Files

SERVICES = (SERVICE.full_name, HEALTH.full_name)

SENDING_CALLS = 1024
"""Open calls that hold no slot any more, because their responses are being sent. A caller can
delay that by not reading, and their number needs a limit too."""

PENDING_CALLS = 1 << 14
"""Calls that may wait to be accepted. By default gRPC's core cancels calls at random once 1000
wait, of any connection, so that a burst of one caller ends calls of others."""

HANDSHAKE_SECONDS = 20
"""Time limit of the handshakes of a connection, TLS included. gRPC's default is two minutes."""

OTHER_DESCRIPTORS = 64
"""File descriptors that files, processes and a few HTTP connections need."""

CLOSE_SECONDS = 1.0
"""Longest time for clients to close connections without calls when the server stops. The core would
wait 20 seconds for a client that does not respond."""

NO_LIMIT = 2**31 - 1
"""gRPC's value for no limit, in milliseconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """Running gRPC server.

    Attributes:
        port: The port, also if the system chose it.
    """

    port: int
    server: AioServer
    handlers: Handlers

    async def stop(self, seconds: float) -> None:
        """Accept no more calls, and let open calls end within ``seconds``.

        Idle streams and health watches end at once.
        """
        if not self.handlers.stopping.done():
            self.handlers.stopping.set_result(None)
        stopping = asyncio.ensure_future(self.server.stop(seconds))
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=CLOSE_SECONDS)
            if not self.server.calls:
                # Only connections are left whose clients have not confirmed that they close.
                await self.server.stop(None)
        await stopping


async def start(state: ServiceState, port: int) -> GrpcServer:
    """Listen on ``port``; 0 lets the system choose.

    Raises:
        PortUnavailable: The port is in use.
    """
    settings = state.settings
    handlers = Handlers(state)
    by_path = {
        **handlers.by_path(),
        **HealthService(handlers, SERVICES).by_path(),
        **Reflection(handlers, SERVICES).by_path(),
    }
    authentication = Authentication(state.keys, handlers)
    max_calls = settings.max_queue + handlers.admission.max_calls + SENDING_CALLS
    server = AioServer(Core((authentication,), by_path, _options(settings), max_calls))
    bound = _listen(server, state, port)
    await server.start()
    log.info("serving gRPC on %s:%d", settings.host, bound)
    return GrpcServer(bound, server, handlers)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        # The size of a response is bounded before it is computed.
        ("grpc.max_send_message_length", -1),
        # The core counts a call that was reset until its handler has ended. The limit therefore
        # also bounds bursts of calls that are reset at once (CVE-2023-44487).
        ("grpc.max_concurrent_streams", settings.grpc_max_streams),
        ("grpc.server.max_pending_requests", PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS),
        ("grpc.max_allowed_incoming_connections", _max_connections()),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.max_connection_idle_ms", _milliseconds(settings.grpc_idle_seconds)),
        ("grpc.max_connection_age_ms", _milliseconds(settings.grpc_max_age_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.drain_seconds)),
        # A connection that broke without notice is closed, and its unread responses are freed.
        ("grpc.keepalive_time_ms", _milliseconds(settings.grpc_keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _milliseconds(settings.grpc_keepalive_timeout_seconds)),
        # Limits on the pings of clients, which cost time and no call.
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(settings.grpc_min_ping_seconds),
        ),
        ("grpc.http2.max_ping_strikes", settings.grpc_max_ping_strikes),
        # A single worker must not share a port with another program.
        ("grpc.so_reuseport", int(settings.workers > 1)),
    ]


def _max_connections() -> int:
    """Return the greatest number of connections: about half of the file descriptors.

    gRPC's core would use all descriptors, and does not close an idle connection for a new one.
    HTTP, which answers the health checks, needs the other half.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < 0:  # There is no limit.
        return NO_LIMIT
    return min(NO_LIMIT, max(descriptors // 2 - OTHER_DESCRIPTORS, descriptors // 4))


def _milliseconds(seconds: float | None) -> int:
    """Return a time in milliseconds for gRPC; None means no limit."""
    return NO_LIMIT if seconds is None else min(NO_LIMIT, round(seconds * 1000))


def _listen(server: AioServer, state: ServiceState, port: int) -> int:
    settings = state.settings
    _check_available(settings, port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{port}"
    try:
        if settings.tls_certificate is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(state.certificates))
    except (RuntimeError, OSError) as error:
        raise PortUnavailable(f"gRPC cannot listen on {address}: {error}") from error


def _check_available(settings: Settings, port: int) -> None:
    """Bind ``port`` for a moment, because gRPC does not report why it cannot listen.

    Raises:
        PortUnavailable: The port is in use; the message is the system's.
    """
    if settings.workers > 1:
        return  # The other workers listen on it.
    try:
        (listener,) = bind(settings.host, port)
    except PortUnavailable as error:
        raise PortUnavailable(f"gRPC {error}") from error
    listener.close()


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Return credentials that use the latest certificates at each handshake."""
    current = certificates.files

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        if certificates.files is current:
            return None
        current = certificates.files
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(current),
        fetch,  # type: ignore[arg-type]  # the documentation allows None for "unchanged"
        require_client_authentication=current.ca is not None,
    )


def _configuration(files: Files) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(files.key, files.certificate)], files.ca)
