"""Several processes that serve on one port, and the one that looks after them.

A worker that dies is replaced at once; meanwhile the others serve the queue of connections that
waited for it, so that what is lost is what it was answering. See `service.worker` for what is said
between them.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from service import cpus
from service.errors import ServiceError, SettingsInvalid
from service.listening import seal
from service.server import OVERTIME_SECONDS, address, grace_of
from service.settings import Settings
from service.table import LIVE, Table, create

MOST_FAILURES = 3
"""How many workers may fail to start, one after the other, before that is taken to be for good."""

LONGEST_LINE = 1 << 16

log = logging.getLogger(__name__)


class WorkersFailed(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


def refuse_contradictions(settings: Settings) -> None:
    """See that several workers can do what is asked of them.

    Raises:
        SettingsInvalid: They cannot.
    """
    if settings.workers == 1:
        return
    if settings.repository_mode == "explicit":
        raise SettingsInvalid(
            "repository_mode explicit needs workers 1, got "
            f"{settings.workers}: a worker that is told to load a model cannot tell the others"
        )
    if settings.grpc_port == 0:
        raise SettingsInvalid(
            f"grpc_port 0 needs workers 1, got {settings.workers}: each would choose its own"
        )


def metric_tables(count: int) -> dict[int, Table]:
    """Return a table for the metrics of each worker, by its descriptor.

    Where there can be none, each worker tells its own metrics only: metrics are worth no service.
    """
    try:
        descriptors = [create() for _ in range(count)]
        return {descriptor: Table(descriptor) for descriptor in descriptors}
    except OSError as error:
        log.warning(
            "workers cannot share metrics: each tells its own", extra={"reason": str(error)}
        )
        return {}


def share(settings: Settings, processors: int) -> Settings:
    """The settings of one worker: where they leave it open, its part of the processors."""
    part = max(1, processors // settings.workers)
    return settings.model_copy(
        update={"threads": settings.threads or part, "lanes": settings.lanes or part}
    )


@dataclass(eq=False)
class Worker:
    """A worker as its supervisor sees it.

    Attributes:
        has_started: Whether it has ever been ready.
        is_ready: Whether it accepts connections.
        failure: Why it could not start, in its own words.
    """

    number: int
    process: subprocess.Popen[bytes]
    control: socket.socket
    has_started: bool = False
    is_ready: bool = False
    heard: bytes = b""
    failure: str | None = None

    def tell(self, line: str) -> None:
        with contextlib.suppress(OSError):  # It may have ended, which will be seen.
            self.control.sendall(line.encode() + b"\n")


class Supervisor:
    """Starts workers, replaces those that die, and ends them all together."""

    def __init__(self, settings: Settings, listeners: list[socket.socket], shown: str) -> None:
        self.settings = settings
        self.listeners = listeners
        self.shown = shown
        self.workers: dict[int, Worker] = {}
        self.status = 0
        self._share = share(settings, cpus.available())
        self._events = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._failures = 0
        self._has_served = False
        self._failure: WorkersFailed | None = None
        self._draining = self._is_stopping = False
        self._stop_at = self._kill_at = float("inf")
        self._tables = metric_tables(settings.workers)

    def run(self) -> int:
        """Serve until a signal ends it; the exit status.

        Raises:
            WorkersFailed: Workers do not start.
        """
        with self._hearing_signals():
            try:
                for number in range(self.settings.workers):
                    self._start(number)
                while self.workers:
                    self._step()
            finally:
                self._kill()
        if self._failure is not None:
            raise self._failure
        return self.status

    def _step(self) -> None:
        """Wait for what happens next, and do what it asks for."""
        until = min(self._stop_at, self._kill_at)
        left = None if until == float("inf") else max(0.0, until - time.monotonic())
        events = self._events.select(left)
        while self._signals:
            self._on_signal(self._signals.pop(0))
        for event, _ in events:
            if isinstance(event.data, Worker):
                self._hear(event.data)
            else:
                event.fileobj.recv(LONGEST_LINE)  # type: ignore[union-attr]  # the signals' socket
        if time.monotonic() >= self._stop_at:
            self._stop()
        if time.monotonic() >= self._kill_at:
            self._kill()

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        descriptors = [listener.fileno() for listener in self.listeners]
        tables = list(self._tables)
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - Python itself
                # -P: a folder named `service` where the user happens to be is not this one.
                [sys.executable, "-P", "-m", "service.worker"]
                + [f"--tables={','.join(map(str, tables))}"]
                + [str(given) for given in (theirs.fileno(), number, *descriptors)],
                pass_fds=(theirs.fileno(), *descriptors, *tables),
            )
        worker = self.workers[number] = Worker(number, process, ours)
        self._events.register(ours, selectors.EVENT_READ, worker)
        worker.tell(self._share.model_dump_json())

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.control.recv(LONGEST_LINE)
        except ConnectionResetError:
            said = b""
        *lines, worker.heard = (worker.heard + said).split(b"\n")
        for line in lines:
            command, _, rest = line.decode().partition(" ")
            if command == "ready":
                self._on_ready(worker)
            elif command == "failed":
                worker.failure = rest
            elif command == "told" and not self._draining:
                self._leave_queue(worker)
                worker.tell("leave")
        if not said:
            self._on_end(worker)

    def _on_ready(self, worker: Worker) -> None:
        log.info("worker is ready", extra={"worker": worker.number, "pid": worker.process.pid})
        worker.has_started = worker.is_ready = True
        self._failures = 0
        for other in self.workers.values():
            other.tell(f"release {worker.number}")
            if not other.is_ready and self._has_served:
                worker.tell(f"adopt {other.number}")
        if not self._has_served and all(other.is_ready for other in self.workers.values()):
            self._has_served = True
            log.info("serving on %s", self.shown)

    def _leave_queue(self, worker: Worker) -> None:
        """Have the others serve the connections that wait for ``worker``."""
        worker.is_ready = False
        for other in self.workers.values():
            if other.is_ready:
                other.tell(f"adopt {worker.number}")

    def _on_end(self, worker: Worker) -> None:
        self._events.unregister(worker.control)
        worker.control.close()
        status = worker.process.wait()
        self._forget_numbers(worker)
        del self.workers[worker.number]
        if not self._is_stopping:
            self._leave_queue(worker)
        extra = {"worker": worker.number, "pid": worker.process.pid, "status": status}
        if self._draining:
            log.info("worker ended", extra=extra)
            self.status = self.status or int(worker.has_started and status != 0)
            return
        log.warning("worker ended; it is replaced", extra=extra)
        if worker.has_started or not self._is_for_good(worker, status):
            self._start(worker.number)

    def _forget_numbers(self, worker: Worker) -> None:
        """Have a worker that has ended count for no more than the totals that it left."""
        for number, table in enumerate(self._tables.values()):
            if number == worker.number:
                table.disown()
                table.zero(LIVE)

    def _is_for_good(self, worker: Worker, status: int) -> bool:
        """Whether to give up, after ``worker`` ended before it was ready; then all are ended."""
        self._failures += 1
        if self._failures < MOST_FAILURES and (self._has_served or worker.failure is None):
            return False
        why = worker.failure or f"it ended with {status} before it was ready"
        self._failure = WorkersFailed(f"workers do not start: {why}")
        self._drain(0)
        return True

    def _on_signal(self, sig: int) -> None:
        if self._draining:
            self.status = 1
            self._kill()
        else:
            self._drain(grace_of(sig, self.settings))

    def _drain(self, grace: float) -> None:
        """Have all workers say that they are not ready, and end them after ``grace`` seconds."""
        now = time.monotonic()
        self._draining = True
        self._stop_at = now + min(grace, self.settings.drain_seconds)
        self._kill_at = now + self.settings.drain_seconds + 2 * OVERTIME_SECONDS
        for worker in self.workers.values():
            worker.tell("drain")

    def _stop(self) -> None:
        """Let nobody connect any more, and have all workers end when they have answered."""
        self._stop_at = float("inf")
        self._is_stopping = True
        for listener in self.listeners:
            seal(listener)
        for worker in self.workers.values():
            if worker.has_started:
                worker.tell("stop")
            else:
                worker.process.kill()
        for listener in self.listeners:
            listener.close()

    def _kill(self) -> None:
        self._kill_at = float("inf")
        for worker in self.workers.values():
            worker.process.kill()

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Have SIGTERM and SIGINT end the waiting for events, and be found in ``_signals``."""
        woken, waking = socket.socketpair()
        waking.setblocking(False)
        with woken, waking:
            self._events.register(woken, selectors.EVENT_READ)
            before = signal.set_wakeup_fd(waking.fileno())
            handlers = {
                sig: signal.signal(sig, self._note) for sig in (signal.SIGTERM, signal.SIGINT)
            }
            try:
                yield
            finally:
                for sig, handler in handlers.items():
                    signal.signal(sig, handler)
                signal.set_wakeup_fd(before)
                self._events.close()

    def _note(self, sig: int, _: FrameType | None) -> None:
        self._signals.append(sig)


def supervise(settings: Settings, listeners: list[socket.socket]) -> int:
    """Serve with a worker for each of ``listeners``, until a signal ends it; the exit status.

    Raises:
        WorkersFailed: Workers do not start.
    """
    scheme = "https" if settings.tls_certificate else "http"
    return Supervisor(settings, listeners, address(listeners[0], scheme)).run()
