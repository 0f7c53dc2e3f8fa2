"""The HTTP server: uvicorn, which ends here without losing a request.

It ends in three steps:

1. `Server.drain`: it is not ready any more, which load balancers see; it answers all the same, and
   has clients connect anew, elsewhere if they can, by ``Connection: close``.
2. Nobody joins the queue of new connections any more; it is served to its end. Requests that are on
   their way on open connections are heard out.
3. Idle connections are closed; requests under way are finished. What then is not done in time is
   given up, and the exit status tells.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gatewave.service import grpc
from gatewave.service.errors import ServiceError
from gatewave.service.http.connection.limits import ConnectionLimits, raise_descriptor_limit
from gatewave.service.http.connection.line import Line
from gatewave.service.http.connection.protocol import AtOnce, Connection
from gatewave.service.http.connection.write_timeout import PATIENCE_SECONDS
from gatewave.service.http.metrics_port import MetricsOnly
from gatewave.service.settings import Settings
from gatewave.service.state import ServiceState
from gatewave.service.system.drain import OVERTIME_SECONDS
from gatewave.service.system.sockets import address, join, readable, seal

KEEP_ALIVE_SECONDS = 75
"""How long a connection may be idle: longer than the minute after which load balancers close it, so
that it is they who do, and no request meets a connection that was just closed."""

HEAD_SECONDS = 30
"""About how long the head of a request may take to come: so long, and no longer than twice that."""

LINGER_SECONDS = 2.0
"""How long, at the end, a new connection may take to send its first request, or the rest of it."""

TLS_HANDSHAKE_SECONDS = 10.0
"""How long a TLS handshake may take. Until it ends, a connection is counted by no limit."""

HANDSHAKE_SECONDS = 0.2
"""How long those may take who have begun to connect when nobody may begin any more."""

CLOSE_SECONDS = 0.5
"""Seconds, approximately, for a client to close a connection that was closed here, at the end."""

CLOSE = (b"connection", b"close")

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, ended by its supervisor.

    Attributes:
        status: The exit status of the process: 1 if requests were aborted.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServiceState,
        started: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.state = state
        self.status = 0
        self._started = started
        self._rpc: grpc.Server | None = None
        self._stop_at = self._deadline = float("inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._silent: dict[Connection, object | None] = {}

    def drain(self, grace: float | None = None) -> None:
        """Be ready no more; stop after ``grace`` seconds, or when `stop` is called."""
        if not self.state.draining:
            self._begin_to_drain()
        self._stop_at = (
            float("inf") if grace is None else min(time.monotonic() + grace, self._deadline)
        )

    def _begin_to_drain(self) -> None:
        limit = self.state.settings.drain_seconds
        self.state.draining = True
        self._deadline = time.monotonic() + limit
        watchdog = threading.Timer(limit + OVERTIME_SECONDS, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        if self._loop is not None:
            # Not from here: the signal may have come amidst the writing of an answer.
            self._loop.call_soon_threadsafe(self._ask_to_leave)

    def stop(self) -> None:
        """Take no more connections, finish what is under way, and end."""
        self._stop_at = time.monotonic()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if self.state.settings.repository is not None:
            from gatewave.service.repository.repository import Repository  # noqa: PLC0415 - as rpc

            # Models are tried after the port has opened: trials may take minutes.
            repository = await Repository.begin(self.state)
            repository.first_scan.add_done_callback(lambda _: self._on_loaded())
            self.state.repository = repository
        else:
            self._on_loaded()
        await self._admission()
        # uvicorn would leave the time for a TLS handshake at a minute.
        await super().startup(None if sockets is None else [])
        if not self.should_exit:
            for listener in sockets or []:
                self.servers.append(await self.listen(listener))
        await self._open_metrics_port()
        port = self.state.settings.grpc_port
        if port is not None and not self.should_exit:
            try:
                self._rpc = await grpc.start(self.state, port)
            except ServiceError:
                await self.lifespan.shutdown()
                raise
        # What is there now stays: to look through it for garbage would hold up requests for 25 ms.
        gc.collect()
        gc.freeze()
        self._started()

    async def listen(
        self, listener: socket.socket, config: uvicorn.Config | None = None
    ) -> asyncio.Server:
        """Accept the connections of ``listener``.

        Args:
            listener: Where clients connect.
            config: How to serve them; None means as at the start.
        """
        config = config or self.config
        make: Any = partial(
            cast(Any, config.http_protocol_class),
            config=config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        return await asyncio.get_running_loop().create_server(
            make,
            sock=listener,
            ssl=config.ssl,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if config.ssl else None,
            backlog=config.backlog,
        )

    async def _admission(self) -> None:
        """Wait until connections may be accepted."""

    def _on_loaded(self) -> None:
        """Hook that is called once all models that exist at the start were tried."""

    async def _open_metrics_port(self) -> None:
        """Listen on the separate port for metrics, if there is one.

        Raises:
            PortUnavailable: The port is taken.
        """
        settings = self.state.settings
        if settings.metrics_port is None or self.should_exit:
            return
        try:
            listener = join(settings.metrics_host or settings.host, settings.metrics_port)
        except ServiceError:
            await self.lifespan.shutdown()
            raise
        app, encryption = MetricsOnly(cast(ASGIApp, self.config.app)), self.config.ssl
        limits = connection_limits(settings)
        config = configuration(app, encryption, None, settings.body_seconds, limits)
        config.load()
        self.servers.append(await self.listen(listener, config))
        log.info("serving metrics on %s", address(listener, "https" if encryption else "http"))

    async def on_tick(self, counter: int) -> bool:
        if counter % (HEAD_SECONDS * 10) == 0:
            self._close_silent()
        return await super().on_tick(counter) or time.monotonic() >= self._stop_at

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async with asyncio.TaskGroup() as protocols:
            if self._rpc is not None:
                protocols.create_task(self._rpc.stop(self._left()))
            protocols.create_task(self._shut_http_down(sockets))
        if self.state.repository is not None:
            await self.state.repository.close()
        left = self._deadline - time.monotonic()
        self.status = int(left <= 0)
        have_ended = await asyncio.to_thread(self.state.close, max(0, left))
        repository = self.state.repository
        if not have_ended or (repository is not None and repository.is_busy):
            # A thread that opens a model, or runs one that ignores its flag, cannot be ended, and
            # Python would wait for it.
            logging.shutdown()
            os._exit(self.status)

    def _left(self) -> float:
        """How many seconds requests under way still have."""
        limit = self.state.settings.drain_seconds
        return max(0.0, min(limit, self._deadline - time.monotonic()))

    async def _shut_http_down(self, sockets: list[socket.socket] | None) -> None:
        await self._serve_queue(sockets or [])
        await self._hear_out()
        self.config.timeout_graceful_shutdown = max(0, self._deadline - time.monotonic())  # type: ignore[assignment]  # seconds are seconds
        aborting = asyncio.create_task(self._abort_unanswered())
        await super().shutdown(sockets)
        aborting.cancel()

    async def _abort_unanswered(self) -> None:
        """Abort connections that are closed here, but not by their clients.

        TLS requires the client to close too, but clients do not read idle connections: uvloop and
        asyncio wait 30 seconds for each.
        """
        closing: set[Connection] = set()
        while True:
            await asyncio.sleep(CLOSE_SECONDS)
            transports = {c: c.transport for c in self._connections() if c.transport.is_closing()}
            for connection in closing & transports.keys():
                if not transports[connection].get_write_buffer_size():
                    transports[connection].abort()
            closing = set(transports)

    def _ask_to_leave(self) -> None:
        """From now on, an answer is its connection's last."""
        log.info("draining")
        self.config.encoded_headers = [*self.config.encoded_headers, CLOSE]
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        for connection in self._connections():
            cycle: RequestResponseCycle | None = connection.cycle
            if cycle is not None and not cycle.response_started:
                cycle.keep_alive = False

    def _connections(self) -> list[Connection]:
        return cast(list[Connection], list(self.server_state.connections))

    async def _serve_queue(self, listeners: list[socket.socket]) -> None:
        """Let nobody connect any more, and accept all who have."""
        for listener in listeners:
            seal(listener)
        await self._accept_all(listeners)

    async def _accept_all(self, listeners: list[socket.socket]) -> None:
        await asyncio.sleep(min(HANDSHAKE_SECONDS, max(0, self._deadline - time.monotonic())))
        descriptors = [listener.fileno() for listener in listeners]
        while readable(descriptors) and time.monotonic() < self._deadline:  # noqa: ASYNC110 - the kernel's queue
            await asyncio.sleep(0)

    async def _hear_out(self) -> None:
        """Wait for requests that are on their way."""
        until = min(self._deadline, time.monotonic() + LINGER_SECONDS)
        await asyncio.sleep(0.01)  # Connections that were just accepted appear.
        while time.monotonic() < until and self._is_expecting():  # noqa: ASYNC110 - of the kernel too
            await asyncio.sleep(0.005)

    def _is_expecting(self) -> bool:
        connections = self._connections()
        if any(connection.expected is not None for connection in connections):
            return True
        return bool(readable([_descriptor(c) for c in connections if not c.transport.is_closing()]))

    def _close_silent(self) -> None:
        """Close the connections that have waited since the last time for the same request."""
        # What has come of a next request does not end the answer to the one before.
        heads = {c: c.expected if c.is_free else None for c in self._connections()}
        for connection, head in heads.items():
            if head is not None and self._silent.get(connection) is head:
                connection.transport.close()
        self._silent = heads


def _descriptor(connection: Connection) -> int:
    descriptor: int = connection.transport.get_extra_info("socket").fileno()
    return descriptor


def configuration(
    app: Any,
    tls: ssl.SSLContext | None,
    fast_path: AtOnce | None = None,
    patience: float = PATIENCE_SECONDS,
    limits: ConnectionLimits | None = None,
) -> uvicorn.Config:
    """Return uvicorn's configuration for ``app``, without its own logs and error answers.

    Args:
        app: The application.
        tls: The context for encrypted connections, if they are encrypted.
        fast_path: Function that may answer requests without ``app``.
        patience: Seconds in which a client must read a part of its answer.
        limits: Limits on connections; None means as many as there are descriptors.
    """
    return uvicorn.Config(
        app,
        http=partial(  # type: ignore[arg-type]  # it makes one
            Connection,
            fast_path=fast_path,
            line=Line(),
            patience=patience,
            limits=limits or ConnectionLimits(),
        ),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )


def connection_limits(settings: Settings) -> ConnectionLimits:
    """Raise the limit of descriptors, and return the limits on connections of this process."""
    raise_descriptor_limit()
    return ConnectionLimits(settings.max_connections, settings.client_connections)
