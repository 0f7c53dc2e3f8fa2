"""One of several processes that serve on one port: ``python -m service.worker``.

It is started by `service.workers`, which gives it the descriptors of the tables of metrics, its own
and the other workers', if there are any; the descriptor of a socket to talk over; its number; and
the descriptors of the sockets that wait for connections, its own and the other workers'. They talk
in lines:

* to the worker: first its settings, in JSON; then ``drain`` and ``stop``, when all end; ``leave``,
  when it ends alone; and, about the queue of worker N, ``adopt N`` when it has nobody to serve it,
  and ``release N`` when it has again;
* from the worker: ``ready``; or ``failed WHY``, when it cannot start; ``told``, when it was told to
  end by somebody else: who looks after a group of processes may tell all of them.

When the supervisor is gone, the worker ends too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from types import FrameType
from typing import Any

from service import metrics, tls
from service.app import at_once, create_app
from service.errors import ServiceError
from service.server import Server, configuration, connection_limits
from service.settings import Settings
from service.table import Table
from service.telemetry import configure_logging

LONGEST_LINE = 1 << 16


class Worker(Server):
    """A server that has a supervisor, and may take over the queues of others."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        listeners: list[socket.socket],
        supervisor: socket.socket,
    ) -> None:
        encryption = tls.context(settings)
        app = create_app(settings)
        super().__init__(
            configuration(
                app,
                encryption,
                at_once(app),
                settings.body_seconds,
                connection_limits(settings),
            ),
            app.state.runtime,
            self._on_started,
        )
        self.number = number
        self.listeners = listeners
        self._encryption = encryption
        self._supervisor = supervisor
        self._adopted: dict[int, asyncio.Server] = {}
        self._adopting: asyncio.Task[None] | None = None
        self._is_dismissed = False
        self._heard = b""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Leave it to the supervisor, who may have had the signal too; a terminal tells both."""
        if sig != signal.SIGINT:
            say(self._supervisor, "told")

    def _on_started(self) -> None:
        self._supervisor.setblocking(False)
        asyncio.get_running_loop().add_reader(self._supervisor.fileno(), self._listen)
        say(self._supervisor, "ready")

    def _listen(self) -> None:
        said = self._supervisor.recv(LONGEST_LINE)
        if not said:
            asyncio.get_running_loop().remove_reader(self._supervisor.fileno())
            self.drain(0)
            return
        *lines, self._heard = (self._heard + said).split(b"\n")
        for line in lines:
            self._obey(*line.decode().split())

    def _obey(self, command: str, *rest: str) -> None:
        match command:
            case "drain":
                self.drain()
            case "stop":
                self._is_dismissed = True
                self.stop()
            case "leave":
                self.drain(self.runtime.settings.grace_seconds)
            case "adopt":
                self._adopting = asyncio.create_task(self._adopt(int(rest[0])))
            case "release":
                if adopted := self._adopted.pop(int(rest[0]), None):
                    self.servers.remove(adopted)
                    adopted.close()

    async def _adopt(self, number: int) -> None:
        if number not in self._adopted:
            self._adopted[number] = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=self.listeners[number].dup(),
                ssl=self._encryption,
                backlog=self.config.backlog,
            )
            self.servers.append(self._adopted[number])

    def _connection(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    async def _serve_queue(self, listeners: list[socket.socket]) -> None:
        """Accept all who have connected, if everybody ends; otherwise others will."""
        if self._is_dismissed:
            await self._accept_all([*listeners, *(self.listeners[n] for n in self._adopted)])
        for listener in self.listeners:
            listener.close()  # Nobody is refused, but left waiting, while any process has them.


def say(supervisor: socket.socket, line: str) -> None:
    """Tell the supervisor, if it is still there."""
    with contextlib.suppress(OSError):
        supervisor.sendall(line.encode() + b"\n")


def _settings(supervisor: socket.socket) -> Settings:
    with supervisor.makefile("rb", buffering=0) as lines:
        return Settings(**json.loads(lines.readline()))


def main() -> int:
    """Serve until told to end; the exit status."""
    tables, *given = sys.argv[1:]
    descriptor, number, *waiting = map(int, given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervisor = socket.socket(fileno=descriptor)
    listeners = [socket.socket(fileno=waits) for waits in waiting]
    settings = _settings(supervisor)
    configure_logging(settings.log_level)
    if shared := [int(each) for each in tables.removeprefix("--tables=").split(",") if each]:
        metrics.share([Table(each) for each in shared], number)
    try:
        server = Worker(settings, number, listeners, supervisor)
        server.run(sockets=[listeners[number].dup()])
    except ServiceError as error:
        say(supervisor, "failed " + " ".join(str(error).split()))
        return 1
    return server.status


if __name__ == "__main__":
    sys.exit(main())
