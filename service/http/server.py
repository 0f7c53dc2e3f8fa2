"""HTTP server: uvicorn, with a port for gRPC, one for metrics, and an orderly end.

The phases of its life are `Server.startup`, `Server.drain` and `Server.shutdown`. `drain` has the
steps in which HTTP ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from gatewave.service import grpc
from gatewave.service.errors import ServiceError
from gatewave.service.http import drain
from gatewave.service.http.configuration import configuration, connection_limits
from gatewave.service.http.connection.head_timeout import HEAD_SECONDS, HeadTimeout
from gatewave.service.http.metrics_port import MetricsOnly
from gatewave.service.state import ServiceState
from gatewave.service.system.shutdown_times import OVERTIME_SECONDS
from gatewave.service.system.sockets import address, join, seal

TLS_HANDSHAKE_SECONDS = 10.0
"""Seconds in which a TLS handshake must end. Until then no limit counts the connection."""

TICKS_PER_SECOND = 10
"""Calls of `Server.on_tick` by uvicorn in a second."""

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which its supervisor ends.

    Attributes:
        state: State of the service in this process.
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
        self._rpc: grpc.GrpcServer | None = None
        self._stop_at = self._deadline = float("inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._head_timeout = HeadTimeout()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await self._begin_loading()
        await self._admission()
        await self._open_port(sockets)
        await self._open_metrics_port()
        await self._open_grpc_port()
        # These objects are permanent. A search of them takes the garbage collector 25 ms.
        gc.collect()
        gc.freeze()
        self._started()

    async def _begin_loading(self) -> None:
        if self.state.settings.repository is None:
            self._on_loaded()
            return
        from gatewave.service.repository.repository import Repository  # noqa: PLC0415 - as rpc

        # Models are tried after the port has opened: trials may take minutes.
        repository = await Repository.begin(self.state)
        repository.first_scan.add_done_callback(lambda _: self._on_loaded())
        self.state.repository = repository

    async def _admission(self) -> None:
        """Wait until connections may be accepted."""

    def _on_loaded(self) -> None:
        """Hook that is called once all models that exist at the start were tried."""

    async def _open_port(self, sockets: list[socket.socket] | None) -> None:
        # Without sockets uvicorn runs the lifespan only. Its own listeners have a minute for a TLS
        # handshake, and no option for less (uvicorn 0.54).
        await super().startup(None if sockets is None else [])
        if not self.should_exit:
            for listener in sockets or []:
                self.servers.append(await self.listen(listener))

    async def listen(
        self, listener: socket.socket, config: uvicorn.Config | None = None
    ) -> asyncio.Server:
        """Accept the connections of ``listener``.

        Args:
            listener: Listening socket.
            config: Configuration of its connections; None means that of the server.
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

    async def _open_grpc_port(self) -> None:
        """Start the gRPC server, if it has a port.

        Raises:
            PortUnavailable: The port is taken.
        """
        port = self.state.settings.grpc_port
        if port is None or self.should_exit:
            return
        try:
            self._rpc = await grpc.start(self.state, port)
        except ServiceError:
            await self.lifespan.shutdown()
            raise

    async def on_tick(self, counter: int) -> bool:
        if counter % (HEAD_SECONDS * TICKS_PER_SECOND) == 0:
            self._head_timeout.check(drain.connections_of(self.server_state))
        return await super().on_tick(counter) or time.monotonic() >= self._stop_at

    def drain(self, grace: float | None = None) -> None:
        """Report as not ready; stop after ``grace`` seconds, or when `stop` is called."""
        if not self.state.draining:
            self._begin_to_drain()
        self._stop_at = (
            float("inf") if grace is None else min(time.monotonic() + grace, self._deadline)
        )

    def _begin_to_drain(self) -> None:
        limit = self.state.settings.drain_seconds
        self.state.draining = True
        self._deadline = time.monotonic() + limit
        # A thread, since the event loop or another thread may hang.
        watchdog = threading.Timer(limit + OVERTIME_SECONDS, os._exit, (1,))
        watchdog.daemon = True
        watchdog.start()
        if self._loop is not None:
            # Not from here: the signal may have come while an answer was written.
            self._loop.call_soon_threadsafe(drain.announce, self.config, self.server_state)

    def stop(self) -> None:
        """Accept no more connections, finish the requests under way, and end."""
        self._stop_at = time.monotonic()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async with asyncio.TaskGroup() as protocols:
            if self._rpc is not None:
                protocols.create_task(self._rpc.stop(self._remaining()))
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

    def _remaining(self) -> float:
        """Return the seconds that requests under way still have."""
        limit = self.state.settings.drain_seconds
        return max(0.0, min(limit, self._deadline - time.monotonic()))

    async def _shut_http_down(self, sockets: list[socket.socket] | None) -> None:
        await self._serve_queue(sockets or [])
        await drain.await_requests(self.server_state, self._deadline)
        self.config.timeout_graceful_shutdown = max(0, self._deadline - time.monotonic())  # type: ignore[assignment]  # seconds are seconds
        aborting = asyncio.create_task(drain.abort_unclosed(self.server_state))
        await super().shutdown(sockets)
        aborting.cancel()

    async def _serve_queue(self, listeners: list[socket.socket]) -> None:
        """Refuse new connections, and accept those that clients have begun."""
        for listener in listeners:
            seal(listener)
        await self._accept_all(listeners)

    async def _accept_all(self, listeners: list[socket.socket]) -> None:
        await drain.accept_queued([each.fileno() for each in listeners], self._deadline)
