"""Pool of the processes of one isolated model: each ended process is replaced.

A process computes one run at a time. When a process ends, its run fails, and another process
replaces it; the model's other processes continue. After repeated ends, the next process is started
after a delay, which grows with the number of ends; meanwhile the model is not ready.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import LimitExceeded, ModelFailed, ServiceError
from gatewave.service.observability import metrics
from gatewave.service.quoting import Words
from gatewave.service.repository.isolation.frames import CHECK_SECONDS
from gatewave.service.repository.isolation.messages import IsolationSetup, Signature
from gatewave.service.repository.isolation.process import ModelProcess, ProcessEnded
from gatewave.service.system.cancellation import CancelToken

ENDS_WITHOUT_DELAY = 2
"""Number of successive ends, without a run in between, after which a process is replaced at once.
A caller that sends one crashing request now and then delays no other request."""
FIRST_WAIT = 0.5
MAX_WAIT = 30.0
"""Seconds until a process is started again; the delay doubles with each end, up to this limit. A
start takes about half a second of a processor, so a model that always crashes costs 2 % of one."""

CANCELLED = "the run was cancelled: no caller waits for it"
UNLOADED = "the model was unloaded"

log = logging.getLogger(__name__)


class ProcessPool:
    """Processes that compute one version of a model; used from many threads."""

    def __init__(
        self,
        model: tuple[str, str],
        setup: IsolationSetup,
        seconds: float,
        report: Callable[[str], None],
    ) -> None:
        """Prepare the pool; `start` starts the processes.

        Args:
            model: Its name and version.
            setup: The version that each process loads.
            seconds: Time limit for loading.
            report: Called in another thread with the reason why the model is not ready, or with an
                empty text when it is ready again.
        """
        self._model = model
        self._setup = setup
        self._seconds = seconds
        self._report = report
        self._changed = threading.Condition()
        self._idle: list[ModelProcess] = []
        self._count = 0
        self._ends = 0
        self._is_closed = False

    @property
    def idle(self) -> Sequence[ModelProcess]:
        """Return the processes that compute no run."""
        return tuple(self._idle)

    def start(self, count: int) -> Signature:
        """Start ``count`` processes; return the model's inputs and outputs.

        Raises:
            ModelRefused: It cannot be served.
            TrialUnfinished: It was not loaded in time, or a process ended.
        """
        try:
            while self._count < count:
                self._add(ModelProcess(self._setup, self._seconds))
        except ServiceError:
            self.close()
            raise
        return self._idle[0].signature

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], token: CancelToken | None
    ) -> dict[str, Array]:
        """Compute ``outputs``.

        Raises:
            ModelFailed: The graph cannot compute these inputs, or ended its process.
            LimitExceeded: The results are too large.
        """
        process = self._acquire(token)
        try:
            header, results = process.run(inputs, outputs, token)
        except ProcessEnded as ended:
            self._replace_ended(str(ended))
            raise ModelFailed(f"the model's process {ended}") from ended
        except UnicodeError as error:
            self._release(process)
            raise ModelFailed(f"strings are not UTF-8: {error}") from error
        except BaseException:
            # Part of the request may have been sent, so the process cannot take another one.
            self._replace_ended(process.end("its run could not be passed on"))
            raise
        self._release(process)
        if "limit" in header:
            field, expected, got = header["limit"]
            raise LimitExceeded.at(field, expected, Words(got))
        if "failed" in header:
            is_cancelled = token is not None and token.is_cancelled
            raise ModelFailed(CANCELLED if is_cancelled else header["failed"])
        return results

    def close(self) -> None:
        """End all processes, each when its run has ended; callable from any thread."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for process in idle:
            self._end(process)

    def _acquire(self, token: CancelToken | None) -> ModelProcess:
        """Wait for an idle process: the worker pool admits as many runs as there are processes.

        One may be missing for as long as its replacement starts.
        """
        with self._changed:
            while not self._idle:
                if self._is_closed:
                    raise ModelFailed(UNLOADED)
                if token is not None and token.is_cancelled:
                    raise ModelFailed(CANCELLED)
                self._changed.wait(CHECK_SECONDS)
            return self._idle.pop()

    def _release(self, process: ModelProcess) -> None:
        with self._changed:
            self._ends = 0
            self._keep(process)

    def _add(self, process: ModelProcess) -> None:
        with self._changed:
            self._count += 1
            self._keep(process)

    def _keep(self, process: ModelProcess) -> None:
        if self._is_closed:
            self._end(process)
            return
        self._idle.append(process)
        self._changed.notify_all()

    @staticmethod
    def _end(process: ModelProcess) -> None:
        """End a process in a thread: the event loop may be the caller, and the end takes time."""
        threading.Thread(target=process.end, args=(UNLOADED,), daemon=True).start()

    def _replace_ended(self, how: str) -> None:
        """Count a process that has ended, and start another."""
        metrics.RESTARTS.labels(*self._model).inc()
        name, version = self._model
        fields = {"model": name, "version": version, "reason": how}
        log.warning("model process ended", extra=fields)
        with self._changed:
            self._count -= 1
            self._ends += 1
        threading.Thread(target=self._start_another, args=(how,), daemon=True).start()

    def _start_another(self, how: str) -> None:
        """Start a process, and retry until one has started."""
        was_reported = False
        reason = f"the model's process {how}"
        while True:
            wait = self._wait
            with self._changed:
                # The model is ready as long as another process of it runs.
                if wait and not self._count:
                    was_reported = True
                    self._report(f"{reason}; it is started again in {wait:g} seconds")
                self._changed.wait_for(lambda: self._is_closed, wait)
                if self._is_closed:
                    return
            try:
                process = ModelProcess(self._setup, self._seconds)
            except ServiceError as error:
                reason = str(error)
                with self._changed:
                    self._ends += 1
                continue
            self._add(process)
            if was_reported:
                self._report("")
            return

    @property
    def _wait(self) -> float:
        """Return the seconds until an ended process is replaced."""
        if self._ends <= ENDS_WITHOUT_DELAY:
            return 0.0
        # The exponent is limited, because a float overflows at 2 ** 1024.
        doublings = min(self._ends - ENDS_WITHOUT_DELAY - 1, 16)
        return float(min(FIRST_WAIT * 2**doublings, MAX_WAIT))
