"""gRPC's asyncio server, with a loop of our own that accepts calls.

The loop of grpcio 1.85 decodes the path of every call as UTF-8. A path with another byte raises
there, without a key, and ends the server for good. The loop also accepts one call at a time: a
burst of calls to one method holds up all others. Health checks are refused if too many calls are
open. Here each served path is registered with gRPC's core, which compares the bytes; calls of all
other paths share one name.
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
    """Filter of grpcio's error logs about metadata that are not UTF-8.

    A caller without a key can cause any number of them, and the call continues with the bytes.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding on")


DROP = MetadataFilter()


class Core(cygrpc.AioServer):  # type: ignore[misc]  # it has no types
    """The core's server, in which only the acceptance of calls is replaced.

    Attributes:
        loop: The event loop.
        interceptors: The interceptors of each call.
        handlers: Handlers by path.
        most_calls: The most open calls; as many again of the public methods.
        calls: The open calls.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],  # type: ignore[type-arg]
        handlers: Mapping[str, Handler],
        options: Options,
        most_calls: int,
    ) -> None:
        self.loop = cygrpc.get_working_loop()
        super().__init__(self.loop, None, (), interceptors, tuple(options), None)
        self.interceptors = tuple(interceptors)
        self.handlers = handlers
        self.most_calls = most_calls
        self.calls: set[asyncio.Task[None]] = set()
        self.add_registered_method_handlers(dict(handlers))

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the handler of a call, in the form that grpcio needs."""
        return self.handlers.get(details.method)

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Task[None]:
        """Accept the calls of one method, or of all unregistered paths, until the server ends.

        The loop of grpcio calls this once for each call.
        """
        task: asyncio.Task[None] = self.loop.create_task(self._take_up(method))
        return task

    async def _take_up(self, method: bytes | None) -> None:
        path = UNKNOWN if method is None else method.decode()
        most = 2 * self.most_calls if path in PUBLIC else self.most_calls
        while True:
            if method is None:
                state = await self._request_call()
            else:
                state = await self._request_registered_call(method)
            is_too_much = len(self.calls) >= most
            answer = cygrpc._handle_rpc(  # noqa: SLF001 - as grpcio's own loop does
                path, self, self.interceptors, state, self.loop, is_too_much
            )
            call = self.loop.create_task(
                cygrpc._schedule_rpc_coro(answer, state, self.loop, path)  # noqa: SLF001
            )
            self.calls.add(call)
            call.add_done_callback(self.calls.discard)


class AioServer(_server.Server):
    """`grpc.aio.Server` around `Core`."""

    def __init__(self, core: Core) -> None:
        logging.getLogger("grpc._cython.cygrpc").addFilter(DROP)
        # The base class would create its own server of the core.
        self._loop = core.loop
        self._server = core

    @property
    def calls(self) -> Collection[object]:
        """Return the calls that are open."""
        calls: set[asyncio.Task[None]] = self._server.calls
        return calls
