"""Supervisor that starts the workers of a service, and replaces workers that end or hang.

It runs for one worker too. A worker that dies is replaced at once; its listening socket stays open
meanwhile. Connections wait in its queue, or are served by the other workers. See
`gatewave.service.processes.worker` for the messages that the two exchange.

It is a program of its own (``python -m gatewave.service.processes.supervisor``), which
`gatewave.service.processes.launch` starts. It needs neither ONNX Runtime nor the web framework, and
modules that are imported here must not need them.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gatewave.service.errors import ServiceError, SettingsInvalid
from gatewave.service.observability.logs import configure_logging
from gatewave.service.observability.table import LIVE, Table, create
from gatewave.service.processes.restarts import RestartPolicy, WorkersFailed, start_failure
from gatewave.service.processes.signals import SignalQueue, signal_name
from gatewave.service.processes.watchdog import Watchdog
from gatewave.service.processes.worker_process import WorkerProcess, reap_orphans
from gatewave.service.system.shutdown_times import OVERTIME_SECONDS, grace_of
from gatewave.service.system.sockets import address, readable, seal

EXIT_SECONDS = 10.0
"""Seconds in which a worker must exit after it has closed its control socket."""

REPEAT_SECONDS = 0.02
"""Seconds within which a repeated signal counts as the same request to end."""

# Not __name__, which is __main__ when this module runs.
log = logging.getLogger("gatewave.service.processes.supervisor")


def metric_tables(count: int) -> dict[int, Table]:
    """Return a table of metrics for each worker, by its descriptor.

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
class SupervisorSettings:
    """Settings that the supervisor itself uses."""

    workers: int
    drain_seconds: float
    grace_seconds: float
    heartbeat_seconds: float

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> SupervisorSettings:
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


class Supervisor:
    """Starts workers, replaces those that die or hang, and ends them all together."""

    def __init__(self, settings: dict[str, Any], listeners: list[socket.socket]) -> None:
        self.settings = settings
        self.own = SupervisorSettings.of(settings)
        self.listeners = listeners
        self.url = address(listeners[0], "https" if settings["tls_certificate"] else "http")
        self.workers: dict[int, WorkerProcess] = {}
        self.status = 0
        self._events = selectors.DefaultSelector()
        self._signals = SignalQueue()
        self._restarts = RestartPolicy()
        self._watchdog = Watchdog(self.own.heartbeat_seconds)
        self._delayed: dict[int, float] = {}
        self._has_served = self._has_been_ready = False
        self._failure: ServiceError | None = None
        self._draining = self._is_stopping = False
        self._stop_at = self._kill_at = float("inf")
        # A single worker keeps its own numbers.
        self._tables = metric_tables(self.own.workers) if self.own.workers > 1 else {}

    def run(self) -> int:
        """Serve until a signal ends it; return the exit status.

        Raises:
            ServiceError: Workers do not start.
        """
        with self._events, self._signals.listening(self._events):
            try:
                for number in range(self.own.workers):
                    self._start(number)
                while self.workers or self._delayed:
                    self._step()
            finally:
                self._kill()
        if self._failure is not None:
            raise self._failure
        return self.status

    def _step(self) -> None:
        """Wait for the next event, and handle it."""
        events = self._events.select(self._timeout())
        while (sig := self._signals.take()) is not None:
            self._on_signal(sig)
        for event, _ in events:
            event.data()
        for worker in list(self.workers.values()):
            self._collect(worker)
        reap_orphans({worker.process.pid for worker in self.workers.values()})
        if not self._draining:
            self._watchdog.check(self.workers.values())
        self._run_timers()

    def _run_timers(self) -> None:
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
        closed = [each.closed_at for each in self.workers.values() if each.closed_at is not None]
        until = min(
            self._stop_at,
            self._kill_at,
            now + self._watchdog.interval,
            *self._delayed.values(),
            *(at + EXIT_SECONDS for at in closed),
        )
        return None if until == float("inf") else max(0.0, until - now)

    def _start(self, number: int) -> None:
        try:
            worker = WorkerProcess.start(number, self.listeners, list(self._tables))
        except OSError as error:
            self._on_no_process(number, error)
            return
        self.workers[number] = worker
        self._events.register(worker.control, selectors.EVENT_READ, lambda: self._read(worker))
        joins_late = any(other.is_ready for other in self.workers.values())
        worker.tell(json.dumps({"settings": self.settings, "joins_late": joins_late}))

    def _on_no_process(self, number: int, error: OSError) -> None:
        if not self._has_served:
            raise WorkersFailed(f"a worker cannot be started: {error.strerror}") from error
        delay = self._restarts.after_failed_start()
        extra = {"worker": number, "reason": error.strerror, "delay_seconds": delay}
        log.error("a worker cannot be started", extra=extra)
        self._replace(number, delay)

    def _read(self, worker: WorkerProcess) -> None:
        lines = worker.read()
        for line in lines or []:
            self._obey(worker, *line.split(" ", 1))
        if lines is None:
            self._close(worker)

    def _close(self, worker: WorkerProcess) -> None:
        self._events.unregister(worker.control)
        worker.control.close()
        worker.closed_at = time.monotonic()

    def _obey(self, worker: WorkerProcess, command: str, rest: str = "") -> None:
        match command:
            case "alive":
                worker.is_beating = True
            case "ready":
                self._on_ready(worker)
            case "loaded":
                worker.has_loaded = True
                self._log_readiness()
            case "grpc":
                # The system chose the port: a replacement must use the same.
                self.settings["grpc_port"] = int(rest)
            case "failed":
                kind, _, why = rest.partition(" ")
                worker.failure = kind, why
            case "told" if not self._draining:
                self._leave_queue(worker)
                worker.tell("leave")

    def _on_ready(self, worker: WorkerProcess) -> None:
        log.info("worker is ready", extra={"worker": worker.number, "pid": worker.process.pid})
        worker.started_at = time.monotonic()
        worker.is_ready = True
        self._restarts.on_ready()
        for other in self.workers.values():
            other.tell(f"release {worker.number}")
        if self._has_served:
            for number in range(self.own.workers):
                if number not in self.workers or not self.workers[number].is_ready:
                    worker.tell(f"adopt {number}")
        elif self._all_are("is_ready"):
            self._has_served = True
            log.info("serving on %s", self.url)
            self._log_readiness()

    def _all_are(self, state: str) -> bool:
        return len(self.workers) == self.own.workers and all(
            getattr(worker, state) for worker in self.workers.values()
        )

    def _log_readiness(self) -> None:
        """Log once that the service is ready."""
        is_first = self._has_served and not self._has_been_ready and not self._draining
        # A draining worker ends its trials, and then reports that it has loaded its models.
        if is_first and self._all_are("has_loaded"):
            self._has_been_ready = True
            log.info("ready")

    def _leave_queue(self, worker: WorkerProcess) -> None:
        """Have the others serve the connections that wait for ``worker``."""
        worker.is_ready = False
        others = [other for other in self.workers.values() if other is not worker]
        ready = [other for other in others if other.is_ready]
        for other in ready:
            other.tell(f"adopt {worker.number}")
        if not ready:
            for other in others:
                other.tell("join")

    def _collect(self, worker: WorkerProcess) -> None:
        """Check whether a worker has exited, and read its last messages."""
        status = worker.process.poll()
        if status is None:
            if time.monotonic() > (worker.closed_at or float("inf")) + EXIT_SECONDS:
                worker.kill()
            return
        while worker.closed_at is None and readable([worker.control.fileno()]):
            self._read(worker)
        if worker.closed_at is None:
            self._close(worker)  # A process that it started may keep the other end open.
        self._on_end(worker, status)

    def _on_end(self, worker: WorkerProcess, status: int) -> None:
        worker.kill_group()
        self._disown_table(worker)
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
            self._failure = start_failure(worker, status)
            self._drain(0)
            return
        if delay:
            extra["delay_seconds"] = delay
        log.warning("worker ended; it is replaced", extra=extra)
        self._replace(worker.number, delay)

    def _disown_table(self, worker: WorkerProcess) -> None:
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

    def _delay(self, worker: WorkerProcess, status: int) -> float | None:
        """Return the seconds until ``worker`` is replaced; None ends the service."""
        if worker.has_started:
            return self._restarts.after_death(worker, status)
        delay = self._restarts.after_failed_start()
        is_served = any(other.is_ready for other in self.workers.values())
        # At the first start, an error that the worker reports is final: the others have it too.
        is_final = not self._has_served and worker.failure is not None
        if is_final or (self._restarts.is_exhausted and not is_served):
            return None
        return delay if self._has_served else 0.0

    def _on_signal(self, sig: int) -> None:
        if sig == signal.SIGHUP:
            for worker in self.workers.values():
                worker.tell("reload")
        elif self._draining:
            self.status = 128 + sig if self.own.workers == 1 else 1
            self._kill()
        else:
            # `timeout` and shells signal a process and then its group: one request, sent twice.
            time.sleep(REPEAT_SECONDS)
            self._signals.discard(sig)
            self._drain(grace_of(sig, self.own.grace_seconds))

    def _drain(self, grace: float) -> None:
        """Have all workers report that they are not ready, and end them after ``grace`` seconds."""
        if not any(worker.has_loaded for worker in self.workers.values()):
            grace = 0.0  # No worker was ready yet, so no balancer has sent requests.
        now = time.monotonic()
        self._draining = True
        self._delayed.clear()
        self._stop_at = now + min(grace, self.own.drain_seconds)
        self._kill_at = now + self.own.drain_seconds + 2 * OVERTIME_SECONDS
        for worker in self.workers.values():
            if worker.has_started:
                worker.tell("drain")
            else:
                worker.kill()

    def _stop(self) -> None:
        """Reject new connections, and have all workers end when their requests are answered."""
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
