"""Worker process, alone or with others on one port.

It is started by `gatewave.service.processes.supervisor`, which passes the descriptors of the tables
of metrics, its own and those of other workers, if there are any; the descriptor of the control
socket; its number; and the descriptors of the listening sockets, its own and those of other
workers.

Messages to the worker, one on each line:

* first, its settings in JSON, and a flag ``joins_late``: it then accepts connections only after
  the trial of its models, because other workers have theirs;
* ``join``: end that wait;
* ``reload``: read certificates and keys again;
* ``drain`` and ``stop``: end together with all workers;
* ``leave``: end alone;
* ``adopt N``: accept the connections of worker N, which is missing;
* ``release N``: worker N is back.

Messages from the worker:

* ``alive``: its event loop runs; sent again and again;
* ``ready``: it accepts connections;
* ``loaded``: it has tried its models;
* ``grpc PORT``: the system chose the port for gRPC;
* ``failed KIND WHY``: it cannot start;
* ``told``: it received a signal to end. Process managers may signal each process of a group.

The worker ends when its supervisor is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
from types import FrameType

from gatewave.service.app import create_app, fast_path
from gatewave.service.errors import ServiceError, SettingsInvalid
from gatewave.service.http.configuration import configuration, connection_limits
from gatewave.service.http.server import Server
from gatewave.service.observability import metrics
from gatewave.service.observability.logs import configure_logging
from gatewave.service.observability.table import Table
from gatewave.service.settings import Settings

BEAT_SECONDS = 1.0
"""Longest time in seconds between two reports that the event loop turns."""

BEATS = 4
"""Reports within the time after which the supervisor treats silence as a hang."""


class Worker(Server):
    """Server that obeys a supervisor, and may adopt the queues of other workers."""

    def __init__(
        self,
        settings: Settings,
        number: int,
        listeners: list[socket.socket],
        supervisor: socket.socket,
        *,
        joins_late: bool = False,
    ) -> None:
        app = create_app(settings)
        super().__init__(
            configuration(
                app,
                app.state.service.certificates.context,
                fast_path(app),
                settings.body_seconds,
                connection_limits(settings),
            ),
            app.state.service,
            self._on_started,
        )
        self.number = number
        self.listeners = listeners
        self._supervisor = supervisor
        self._adopted: dict[int, asyncio.Server] = {}
        self._adopting: asyncio.Task[None] | None = None
        self._is_dismissed = False
        self._may_join = asyncio.Event()
        if not joins_late:
            self._may_join.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """Report a signal to the supervisor, which may have received it too.

        SIGINT is not reported, because a terminal sends it to both.
        """
        if sig != signal.SIGINT:
            say(self._supervisor, "told")

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._supervisor.setblocking(False)
        # Not add_reader: the socket of a killed supervisor is reset, and uvloop then calls readers
        # neither for the reset nor for the end.
        await asyncio.get_running_loop().create_unix_connection(
            lambda: Orders(self), sock=self._supervisor.dup()
        )
        self._beat()
        await super().startup(sockets)

    def _beat(self) -> None:
        say(self._supervisor, "alive")
        silence = self.state.settings.heartbeat_seconds / BEATS
        asyncio.get_running_loop().call_later(min(BEAT_SECONDS, silence or 1), self._beat)

    async def _admission(self) -> None:
        await self._may_join.wait()

    def _on_started(self) -> None:
        if self._rpc is not None and self.state.settings.grpc_port == 0:
            say(self._supervisor, f"grpc {self._rpc.port}")
        say(self._supervisor, "ready")

    def _on_loaded(self) -> None:
        self._may_join.set()
        say(self._supervisor, "loaded")

    def obey(self, command: str, *rest: str) -> None:
        """Execute an order of the supervisor."""
        match command:
            case "join":
                self._may_join.set()
            case "reload":
                self.state.reload()
            case "drain":
                self.drain()
            case "stop":
                self._is_dismissed = True
                self.stop()
            case "leave":
                self.drain(self.state.settings.grace_seconds)
            case _:
                self._change_queues(command, int(rest[0]))

    def _change_queues(self, command: str, number: int) -> None:
        """Adopt the queue of another worker, or release it."""
        if command == "adopt":
            self._adopting = asyncio.create_task(self._adopt(number))
        elif adopted := self._adopted.pop(number, None):
            self.servers.remove(adopted)
            adopted.close()

    async def _adopt(self, number: int) -> None:
        if number not in self._adopted:
            self._adopted[number] = await self.listen(self.listeners[number].dup())
            self.servers.append(self._adopted[number])

    async def _serve_queue(self, listeners: list[socket.socket]) -> None:
        """Accept the waiting connections if all workers end; otherwise other workers do."""
        if self._is_dismissed:
            await self._accept_all([*listeners, *(self.listeners[n] for n in self._adopted)])
        for listener in self.listeners:
            # The connections of a queue wait, and are not refused, while any process has it open.
            listener.close()


class Orders(asyncio.Protocol):
    """Protocol of the control socket: messages of the supervisor to ``worker``."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._worker.obey(*line.decode().split())

    def connection_lost(self, _: Exception | None) -> None:
        """End, because the supervisor is gone."""
        self._worker.drain(0)


def say(supervisor: socket.socket, line: str) -> None:
    """Send a message to the supervisor, if it still runs."""
    with contextlib.suppress(OSError):
        supervisor.sendall(line.encode() + b"\n")


def _orders(supervisor: socket.socket) -> tuple[Settings, bool]:
    """Return the settings, and the flag ``joins_late``."""
    with supervisor.makefile("rb", buffering=0) as lines:
        orders = json.loads(lines.readline())
    return Settings(**orders["settings"]), orders["joins_late"]


def main() -> int:
    """Serve until told to end; return the exit status."""
    tables, *given = sys.argv[1:]
    descriptor, number, *waiting = map(int, given)
    for sig in (signal.SIGINT, signal.SIGHUP):  # A terminal sends these signals to the whole group.
        signal.signal(sig, signal.SIG_IGN)
    faulthandler.enable()
    supervisor = socket.socket(fileno=descriptor)
    listeners = [socket.socket(fileno=waits) for waits in waiting]
    for inherited in (supervisor, *listeners):
        inherited.set_inheritable(False)  # uvloop keeps descriptors open in started processes.
    settings, joins_late = _orders(supervisor)
    configure_logging(settings.log_level)
    if shared := [int(each) for each in tables.removeprefix("--tables=").split(",") if each]:
        metrics.share([Table(each) for each in shared], number)
        for each in shared:  # The tables are mapped now, and started processes do not need them.
            os.close(each)
    try:
        server = Worker(settings, number, listeners, supervisor, joins_late=joins_late)
        server.run(sockets=[listeners[number].dup()])
    except ServiceError as error:
        kind = "SettingsInvalid" if isinstance(error, SettingsInvalid) else "ServiceError"
        say(supervisor, f"failed {kind} " + " ".join(str(error).split()))
        return 1
    return server.status


if __name__ == "__main__":
    sys.exit(main())
