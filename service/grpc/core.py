"""gRPC's asyncio server with another loop that accepts calls.

The loop of grpcio 1.85.1 has three faults for a public server:

- It decodes the path of every call as UTF-8. A path with another byte raises an error there and
  ends the server for good. The caller needs no key for that.
- It accepts one call at a time: a burst of calls to one method delays calls to all others.
- It counts all open calls together: 900 idle reflection streams blocked inference and health
  checks.

Here each served path is registered with gRPC's core, which compares bytes. Calls of all other paths
arrive under one name. ADR 24 has the details.

This module is the only one that uses private names of grpcio: `cygrpc.AioServer` with its methods
`_request_call` and `_request_registered_call`, `cygrpc._handle_rpc`, `cygrpc._schedule_rpc_coro`,
and `grpc.aio._server.Server`. They can change in any release. Therefore ``pyproject.toml`` bounds
grpcio to 1.85. Raise the bound only if the tests of this package pass.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from gatewave.service.grpc.handlers import Handler
from gatewave.service.grpc.paths import PUBLIC, UNKNOWN

Options = Sequence[tuple[str, int]]


class MetadataFilter(logging.Filter):
    """Filter that drops grpcio's error logs about metadata that are not UTF-8.

    A caller without a key can cause any number of them. The call continues with the bytes.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding on")


METADATA_FILTER = MetadataFilter()
"""The only instance: a logger ignores a filter that it already has."""


class Core(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """Server of gRPC's core, in which only the acceptance of calls is replaced.

    Attributes:
        loop: The event loop.
        interceptors: The interceptors of each call.
        handlers: Handlers by path.
        max_calls: Greatest number of open calls. Twice as many are allowed for a call of a public
            method, so that health checks are answered while other calls fill the limit.
        calls: The open calls.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],  # type: ignore[type-arg]
        handlers: Mapping[str, Handler],
        options: Options,
        max_calls: int,
    ) -> None:
        self.loop = cygrpc.get_working_loop()
        super().__init__(self.loop, None, (), interceptors, tuple(options), None)
        self.interceptors = tuple(interceptors)
        self.handlers = handlers
        self.max_calls = max_calls
        self.calls: set[asyncio.Task[None]] = set()
        self.add_registered_method_handlers(dict(handlers))

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of a call; grpcio calls this method."""
        return self.handlers.get(details.method)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Task[None]:
        """Accept the calls of one method, or of all unregistered paths, until the server ends.

        It replaces a method that grpcio's loop calls again whenever the returned task is done. The
        task here never ends, and grpcio calls it once for each method.
        """
        task: asyncio.Task[None] = self.loop.create_task(self._accept(method))
        return task

    async def _accept(self, method: bytes | None) -> None:
        path = UNKNOWN if method is None else method.decode()
        limit = 2 * self.max_calls if path in PUBLIC else self.max_calls
        while True:
            if method is None:
                state = await self._request_call()
            else:
                state = await self._request_registered_call(method)
            is_over_limit = len(self.calls) >= limit
            answer = cygrpc._handle_rpc(  # noqa: SLF001 - as grpcio's own loop does
                path, self, self.interceptors, state, self.loop, is_over_limit
            )
            call = self.loop.create_task(
                cygrpc._schedule_rpc_coro(answer, state, self.loop, path)  # noqa: SLF001
            )
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)


class AioServer(_server.Server):
    """`grpc.aio.Server` around `Core`."""

    def __init__(self, core: Core) -> None:
        logging.getLogger("grpc._cython.cygrpc").addFilter(METADATA_FILTER)
        # The constructor of the base class is not called: it creates a core server of its own.
        self._loop = core.loop
        self._server = core

    @property
    def calls(self) -> Collection[object]:
        """Return the calls that are open."""
        calls: set[asyncio.Task[None]] = self._server.calls
        return calls
