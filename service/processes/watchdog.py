"""Detection of workers with a stopped event loop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterable

from gatewave.service.processes.worker_process import WorkerProcess

START_SECONDS = 600.0
"""Seconds in which a worker's event loop must run, after imports and the loading of artifacts."""

CHECK_SECONDS = 1.0
"""Seconds between two searches for silent workers."""

MAX_COUNTED_SECONDS = 2 * CHECK_SECONDS
"""Limit in seconds on the silence between two searches: beyond it, the supervisor did not run."""

ABORT_SECONDS = 2.0
"""Seconds between SIGABRT, at which Python writes its stacks, and SIGKILL for a silent worker."""

log = logging.getLogger(__name__)


class Watchdog:
    """Kills workers that are stopped, or stuck in native code on their event loop.

    Args:
        limit: Seconds of silence after which a worker is killed; 0 means never.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._checked_at = time.monotonic()

    @property
    def interval(self) -> float:
        """Return the seconds between two checks."""
        return min(CHECK_SECONDS, self.limit / 2) if self.limit else float("inf")

    def check(self, workers: Iterable[WorkerProcess]) -> None:
        """Count the silence of ``workers``, and kill those that exceed the limit."""
        now = time.monotonic()
        # The limit on the elapsed time covers a suspended or busy machine: time in which the
        # supervisor did not run counts against no worker. Messages were read before this.
        elapsed = min(now - self._checked_at, MAX_COUNTED_SECONDS, self.limit / 2)
        self._checked_at = now
        if not self.limit:
            return
        for worker in workers:
            worker.silent += elapsed
            limit = self.limit if worker.is_beating else max(self.limit, START_SECONDS)
            if worker.silent < limit:
                continue
            if not worker.is_aborted:
                _abort(worker)
            elif worker.silent >= limit + ABORT_SECONDS:
                worker.kill()


def _abort(worker: WorkerProcess) -> None:
    extra = {
        "worker": worker.number,
        "pid": worker.process.pid,
        "silent_seconds": round(worker.silent, 1),
    }
    log.error("worker is silent; it is killed", extra=extra)
    worker.is_aborted = True
    worker.process.send_signal(signal.SIGABRT)
