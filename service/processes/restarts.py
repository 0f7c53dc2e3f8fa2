"""Delays before ended workers are replaced."""

from __future__ import annotations

import time

from gatewave.service.errors import ServiceError, SettingsInvalid
from gatewave.service.processes.worker_process import WorkerProcess

MAX_START_FAILURES = 3
"""Successive failed starts after which the service ends, unless another worker serves."""

STABLE_SECONDS = 5.0
"""A worker that ends sooner after its start counts as one of a crash loop."""

MAX_IMMEDIATE_RESTARTS = 3
"""Successive early deaths of a worker that are replaced without a delay."""

MAX_DELAY_SECONDS = 30.0
"""Longest delay before a replacement; delays start at one second and double."""


class WorkersFailed(ServiceError):  # noqa: N818 - a state, as HTTP names them
    pass


class RestartPolicy:
    """Counts of failed starts and early deaths, and the delays that follow from them."""

    def __init__(self) -> None:
        self._failed_starts = 0
        self._early_deaths: dict[int, int] = {}

    @property
    def is_exhausted(self) -> bool:
        """Return True after `MAX_START_FAILURES` failed starts in a row."""
        return self._failed_starts >= MAX_START_FAILURES

    def on_ready(self) -> None:
        """Forget failed starts, because a worker became ready."""
        self._failed_starts = 0

    def after_failed_start(self) -> float:
        """Count a worker that ended before it was ready; return the delay in seconds."""
        self._failed_starts += 1
        return _doubled(self._failed_starts)

    def after_death(self, worker: WorkerProcess, status: int) -> float:
        """Count the end of a worker that had been ready; return the delay in seconds."""
        lived = time.monotonic() - (worker.started_at or 0.0)
        if lived >= STABLE_SECONDS or status == 0:
            self._early_deaths.pop(worker.number, None)
            return 0.0
        deaths = self._early_deaths[worker.number] = self._early_deaths.get(worker.number, 0) + 1
        return _doubled(deaths - MAX_IMMEDIATE_RESTARTS)


def start_failure(worker: WorkerProcess, status: int) -> ServiceError:
    """Return the error of a worker that could not start, with its own text if it sent one."""
    if worker.failure is None:
        return WorkersFailed(f"workers do not start: one ended with {status} before it was ready")
    kind, why = worker.failure
    return SettingsInvalid(why) if kind == SettingsInvalid.__name__ else WorkersFailed(why)


def _doubled(steps: int) -> float:
    """Return one second for the first step, doubled for each further step, up to the limit."""
    if steps < 1:
        return 0.0
    return min(MAX_DELAY_SECONDS, 2.0 ** (min(steps, 30) - 1))
