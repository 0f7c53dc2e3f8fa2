"""Supervisor that starts the workers of a service, and replaces workers that end or hang.

It runs for one worker too. A worker that dies is replaced at once; its listening socket stays open
meanwhile, so connections wait in its queue, or are served by the other workers. See
`gatewave.service.processes.worker` for the lines that the two exchange.

It is a program of its own (``python -m gatewave.service.processes.supervisor``), which
`gatewave.service.processes.launch` starts. It needs neither ONNX Runtime nor the web framework, and
what is imported here must not need them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from types import FrameType
from typing import TYPE_CHECKING, Any

from gatewave.service.errors import ServiceError, SettingsInvalid
from gatewave.service.observability.logs import configure_logging
from gatewave.service.observability.table import LIVE, Table, create
from gatewave.service.processes.supervised import HEARD, Worker, reap_orphans, signal_name
from gatewave.service.system.drain import OVERTIME_SECONDS, grace_of
from gatewave.service.system.sockets import address, readable, seal

if TYPE_CHECKING:
    pass

MAX_FAILURES = 3
"""How many workers may fail to start, one after the other, before that is taken to be for good."""

STABLE_SECONDS = 5.0
"""A worker that dies sooner after its start counts as one of a crash loop."""

MAX_QUICK_DEATHS = 3
"""Successive early deaths of workers that are replaced without a delay."""

LONGEST_DELAY_SECONDS = 30.0
"""Longest delay before a replacement, in seconds; delays start at one second and double."""

START_SECONDS = 600.0
"""Seconds in which a worker's event loop must run, after imports and the loading of artifacts."""

TICK_SECONDS = 1.0
"""Seconds between two searches for silent workers."""

MAX_COUNTED_SECONDS = 2 * TICK_SECONDS
"""Limit in seconds on the silence between two searches: beyond it, the supervisor did not run."""

ABORT_SECONDS = 2.0
"""Seconds between SIGABRT, at which Python writes its stacks, and SIGKILL for a silent worker."""

EXIT_SECONDS = 10.0
"""Seconds in which a worker must exit after it has closed its control socket."""

TWICE_SECONDS = 0.02
"""Seconds within which a repeated signal counts as the same request to end."""

LONGEST_LINE = 1 << 16

log = logging.getLogger(
    "gatewave.service.processes.supervisor"
)  # and not __main__, its name when it runs


class WorkersFailed(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


def metric_tables(count: int) -> dict[int, Table]:
    """Return the descriptors of a table of metrics for each worker.

    If tables cannot be created, each worker reports its own metrics only, and the service starts.
    """
    try:
        descriptors = [create() for _ in range(count)]
        return {descriptor: Table(descriptor) for descriptor in descriptors}
    except OSError as error:
        log.warning(
            "workers cannot share metrics: each reports its own", extra={"reason": str(error)}
        )
        return {}


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the supervisor itself."""

    workers: int
    drain_seconds: float
    grace_seconds: float
    heartbeat_seconds: float

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Limits:
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


class Supervisor:
    """Starts workers, replaces those that die or hang, and ends them all together."""

    def __init__(self, settings: dict[str, Any], listeners: list[socket.socket]) -> None:
        self.settings = settings
        self.limits = Limits.of(settings)
        self.listeners = listeners
        self.shown = address(listeners[0], "https" if settings["tls_certificate"] else "http")
        self.workers: dict[int, Worker] = {}
        self.status = 0
        self._events = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._failures = 0
        self._quick_deaths: dict[int, int] = {}
        self._delayed: dict[int, float] = {}
        self._has_served = self._has_been_ready = False
        self._failure: ServiceError | None = None
        self._draining = self._is_stopping = False
        self._stop_at = self._kill_at = float("inf")
        self._looked_at = time.monotonic()
        # One worker keeps its own numbers.
        self._tables = metric_tables(self.limits.workers) if self.limits.workers > 1 else {}

    def run(self) -> int:
        """Serve until a signal ends it; return the exit status.

        Raises:
            ServiceError: Workers do not start.
        """
        with self._hearing_signals():
            try:
                for number in range(self.limits.workers):
                    self._start(number)
                while self.workers or self._delayed:
                    self._step()
            finally:
                self._kill()
        if self._failure is not None:
            raise self._failure
        return self.status

    def _step(self) -> None:
        """Wait for what happens next, and do what it asks for."""
        events = self._events.select(self._timeout())
        while self._signals:
            self._on_signal(self._signals.pop(0))
        for event, _ in events:
            if isinstance(event.data, Worker):
                self._hear(event.data)
            else:
                event.fileobj.recv(LONGEST_LINE)  # type: ignore[union-attr]  # the signals' socket
        for worker in list(self.workers.values()):
            self._collect(worker)
        reap_orphans({worker.process.pid for worker in self.workers.values()})
        self._watch()
        self._do_what_is_due()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._delayed.items() if now >= at]:
            del self._delayed[number]
            self._start(number)
        if now >= self._stop_at:
            self._stop()
        if now >= self._kill_at:
            self._kill()

    def _timeout(self) -> float | None:
        """Return the longest wait for an event, in seconds."""
        now = time.monotonic()
        until = min(self._stop_at, self._kill_at, *self._delayed.values(), float("inf"))
        closed = [each.closed_at for each in self.workers.values() if each.closed_at is not None]
        until = min(until, *(at + EXIT_SECONDS for at in closed), until)
        if self.limits.heartbeat_seconds:
            until = min(until, now + min(TICK_SECONDS, self.limits.heartbeat_seconds / 2))
        return None if until == float("inf") else max(0.0, until - now)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        descriptors = [listener.fileno() for listener in self.listeners]
        tables = list(self._tables)
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - Python itself
                    # -P: a folder `service` in the working directory is not this package.
                    [sys.executable, "-P", "-m", "gatewave.service.processes.worker"]
                    + [f"--tables={','.join(map(str, tables))}"]
                    + [str(given) for given in (theirs.fileno(), number, *descriptors)],
                    pass_fds=(theirs.fileno(), *descriptors, *tables),
                    # A process group of its own: its processes end with it, however it ends.
                    process_group=0,
                )
            except OSError as error:  # Too many processes, or too little memory.
                ours.close()
                self._on_no_process(number, error)
                return
        worker = self.workers[number] = Worker(number, process, ours)
        self._events.register(ours, selectors.EVENT_READ, worker)
        joins_late = any(other.is_ready for other in self.workers.values())
        worker.tell(json.dumps({"settings": self.settings, "joins_late": joins_late}))

    def _on_no_process(self, number: int, error: OSError) -> None:
        if not self._has_served:
            raise WorkersFailed(f"a worker cannot be started: {error.strerror}") from error
        self._failures += 1
        delay = _doubled(self._failures)
        extra = {"worker": number, "reason": error.strerror, "delay_seconds": delay}
        log.error("a worker cannot be started", extra=extra)
        self._replace(number, delay)

    def _hear(self, worker: Worker) -> None:
        try:
            said = worker.control.recv(LONGEST_LINE)
        except OSError:  # It was killed with unread data.
            said = b""
        worker.silent = 0.0
        *lines, worker.heard = (worker.heard + said).split(b"\n")
        for line in lines:
            self._obey(worker, *line.decode().split(" ", 1))
        if not said:
            self._close(worker)

    def _close(self, worker: Worker) -> None:
        self._events.unregister(worker.control)
        worker.control.close()
        worker.closed_at = time.monotonic()

    def _obey(self, worker: Worker, command: str, rest: str = "") -> None:
        match command:
            case "alive":
                worker.is_beating = True
            case "ready":
                self._on_ready(worker)
            case "loaded":
                worker.has_loaded = True
                self._tell_readiness()
            case "grpc":
                # The system chose the port: a replacement must use the same.
                self.settings["grpc_port"] = int(rest)
            case "failed":
                kind, _, why = rest.partition(" ")
                worker.failure = kind, why
            case "told" if not self._draining:
                self._leave_queue(worker)
                worker.tell("leave")

    def _on_ready(self, worker: Worker) -> None:
        log.info("worker is ready", extra={"worker": worker.number, "pid": worker.process.pid})
        worker.started_at = time.monotonic()
        worker.is_ready = True
        self._failures = 0
        for other in self.workers.values():
            other.tell(f"release {worker.number}")
        if self._has_served:
            for number in range(self.limits.workers):
                if number not in self.workers or not self.workers[number].is_ready:
                    worker.tell(f"adopt {number}")
        elif self._all_are("is_ready"):
            self._has_served = True
            log.info("serving on %s", self.shown)
            self._tell_readiness()

    def _all_are(self, state: str) -> bool:
        return len(self.workers) == self.limits.workers and all(
            getattr(worker, state) for worker in self.workers.values()
        )

    def _tell_readiness(self) -> None:
        is_first = self._has_served and not self._has_been_ready and not self._draining
        # A worker that drains ends its trials, and has then loaded all that it will.
        if is_first and self._all_are("has_loaded"):
            self._has_been_ready = True
            log.info("ready")

    def _leave_queue(self, worker: Worker) -> None:
        """Have the others serve the connections that wait for ``worker``."""
        worker.is_ready = False
        others = [other for other in self.workers.values() if other is not worker]
        ready = [other for other in others if other.is_ready]
        for other in ready:
            other.tell(f"adopt {worker.number}")
        if not ready:
            for other in others:
                other.tell("join")

    def _collect(self, worker: Worker) -> None:
        """Check whether a worker has exited, and read its last lines."""
        status = worker.process.poll()
        if status is None:
            if time.monotonic() > (worker.closed_at or float("inf")) + EXIT_SECONDS:
                worker.kill()
            return
        while worker.closed_at is None and readable([worker.control.fileno()]):
            self._hear(worker)
        if worker.closed_at is None:
            self._close(worker)  # A process that it started may keep the other end open.
        self._on_end(worker, status)

    def _on_end(self, worker: Worker, status: int) -> None:
        worker.end_group()
        self._forget_numbers(worker)
        del self.workers[worker.number]
        if not self._is_stopping:
            self._leave_queue(worker)
        extra: dict[str, object] = {
            "worker": worker.number,
            "pid": worker.process.pid,
            "status": status,
        }
        if status < 0:
            extra["signal"] = signal_name(-status)
        if self._draining:
            log.info("worker ended", extra=extra)
            self.status = self.status or int(worker.has_started and status != 0)
            return
        delay = self._delay(worker, status)
        if delay is None:
            self._drain(0)
            return
        if delay:
            extra["delay_seconds"] = delay
        log.warning("worker ended; it is replaced", extra=extra)
        self._replace(worker.number, delay)

    def _forget_numbers(self, worker: Worker) -> None:
        """Keep only the totals of an ended worker's metrics."""
        for number, table in enumerate(self._tables.values()):
            if number == worker.number:
                table.disown()
                table.zero(LIVE)

    def _replace(self, number: int, delay: float) -> None:
        if delay:
            self._delayed[number] = time.monotonic() + delay
        else:
            self._start(number)

    def _delay(self, worker: Worker, status: int) -> float | None:
        """Return the seconds until ``worker`` is replaced; None if all workers are ending."""
        if worker.started_at is None:
            return self._delay_after_failure(worker, status)
        lived = time.monotonic() - worker.started_at
        if lived >= STABLE_SECONDS or status == 0:
            self._quick_deaths.pop(worker.number, None)
            return 0.0
        deaths = self._quick_deaths[worker.number] = self._quick_deaths.get(worker.number, 0) + 1
        return _doubled(deaths - MAX_QUICK_DEATHS)

    def _delay_after_failure(self, worker: Worker, status: int) -> float | None:
        """Return the delay, as `_delay` does, for a worker that ended before it was ready."""
        self._failures += 1
        serving = any(other.is_ready for other in self.workers.values())
        final = not self._has_served and worker.failure is not None
        if final or (self._failures >= MAX_FAILURES and not serving):
            self._failure = self._failed(worker, status)
            return None
        return _doubled(self._failures) if self._has_served else 0.0

    def _failed(self, worker: Worker, status: int) -> ServiceError:
        """Return the error of a worker that could not start, in its own words if it gave any."""
        if worker.failure is None:
            return WorkersFailed(
                f"workers do not start: one ended with {status} before it was ready"
            )
        kind, why = worker.failure
        return SettingsInvalid(why) if kind == SettingsInvalid.__name__ else WorkersFailed(why)

    def _watch(self) -> None:
        """Kill workers that have been silent for too long, because they are stopped or stuck."""
        now = time.monotonic()
        # Where the supervisor did not run either, the machine was suspended, or busy: such time
        # counts against no worker. What they have said meanwhile was read before this.
        limit = self.limits.heartbeat_seconds
        elapsed = min(now - self._looked_at, MAX_COUNTED_SECONDS, limit / 2)
        self._looked_at = now
        if not limit or self._draining:
            return
        for worker in self.workers.values():
            worker.silent += elapsed
            bound = limit if worker.is_beating else max(limit, START_SECONDS)
            if worker.silent < bound:
                continue
            if not worker.is_aborted:
                self._abort(worker)
            elif worker.silent >= bound + ABORT_SECONDS:
                worker.kill()

    def _abort(self, worker: Worker) -> None:
        extra = {
            "worker": worker.number,
            "pid": worker.process.pid,
            "silent_seconds": round(worker.silent, 1),
        }
        log.error("worker is silent; it is killed", extra=extra)
        worker.is_aborted = True
        worker.process.send_signal(signal.SIGABRT)

    def _on_signal(self, sig: int) -> None:
        if sig == signal.SIGHUP:
            for worker in self.workers.values():
                worker.tell("reload")
        elif self._draining:
            self.status = 128 + sig if self.limits.workers == 1 else 1
            self._kill()
        else:
            # `timeout` and shells tell a process and its group: that is one signal, not a second.
            time.sleep(TWICE_SECONDS)
            self._signals = [other for other in self._signals if other != sig]
            self._drain(grace_of(sig, self.limits.grace_seconds))

    def _drain(self, grace: float) -> None:
        """Have all workers say that they are not ready, and end them after ``grace`` seconds."""
        if not any(worker.has_loaded for worker in self.workers.values()):
            grace = 0.0  # None of them was ready yet, so no balancer has sent requests.
        now = time.monotonic()
        self._draining = True
        self._delayed.clear()
        self._stop_at = now + min(grace, self.limits.drain_seconds)
        self._kill_at = now + self.limits.drain_seconds + 2 * OVERTIME_SECONDS
        for worker in self.workers.values():
            if worker.has_started:
                worker.tell("drain")
            else:
                worker.kill()

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
                worker.kill()
        for listener in self.listeners:
            listener.close()

    def _kill(self) -> None:
        self._kill_at = float("inf")
        self._delayed.clear()
        for worker in self.workers.values():
            worker.kill()

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Collect signals in ``_signals``, and wake the wait for events."""
        woken, waking = socket.socketpair()
        waking.setblocking(False)
        with woken, waking:
            self._events.register(woken, selectors.EVENT_READ)
            before = signal.set_wakeup_fd(waking.fileno())
            handlers = {sig: signal.signal(sig, self._note) for sig in HEARD}
            # The end of a child also wakes the wait.
            handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            # `launch.become` has blocked them, so that none was lost before there were handlers.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            try:
                yield
            finally:
                for sig, handler in handlers.items():
                    signal.signal(sig, handler)
                signal.set_wakeup_fd(before)
                self._events.close()

    def _note(self, sig: int, _: FrameType | None) -> None:
        self._signals.append(sig)


def _doubled(steps: int) -> float:
    """Return a delay that starts at one second with the first step, and doubles up to its bound."""
    if steps < 1:
        return 0.0
    return min(LONGEST_DELAY_SECONDS, 2.0 ** (min(steps, 30) - 1))


def main() -> int:
    """Serve until a signal ends it; return the exit status."""
    descriptor, *waiting = map(int, sys.argv[1:])
    with os.fdopen(descriptor, "rb") as given:
        settings = json.load(given)
    configure_logging(settings["log_level"])
    listeners = [socket.socket(fileno=waits) for waits in waiting]
    try:
        status = Supervisor(settings, listeners).run()
    except ServiceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, SettingsInvalid) else 1
    log.info("stopped")
    return status


if __name__ == "__main__":
    sys.exit(main())
