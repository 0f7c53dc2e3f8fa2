"""Models that are computed in isolated processes, which a run may end.

A process computes one run at a time. When a process ends, its run fails, and another process
replaces it; the model's other processes continue. After repeated ends, the next process is started
after a delay, which grows with the number of ends; meanwhile the model is not ready.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import LimitExceeded, ModelFailed, ModelRefused, ServiceError
from gatewave.service.observability import metrics
from gatewave.service.quoting import Words
from gatewave.service.repository.isolation.frames import CHECK_SECONDS, FrameError, Frames
from gatewave.service.repository.isolation.isolated import Signature, Work
from gatewave.service.repository.model import Declared
from gatewave.service.repository.trial.verification import (
    TrialUnfinished,
    clean_environment,
    end_of,
)
from gatewave.service.serving.model import Batching, Port
from gatewave.service.system.cancellation import CancelToken

PROGRAM = "gatewave.service.repository.isolation.isolated"

HALT_SECONDS = 1.0
"""Seconds in which a halted run must end, before its process is ended."""
ENDS_WITHOUT_DELAY = 2
"""Successive ends of a model's processes, without a run in between, that cause no delay."""
FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds until a process is started again; the delay doubles with each end, up to a limit."""

OVERDUE = "was ended: its run did not end when it was told to"
UNWANTED = "the run was ended: no caller waits for it"

log = logging.getLogger(__name__)


class _Ended(Exception):  # noqa: N818 - a state of a process
    """The process has ended, or was ended; the message says how."""


class Child:
    """One process that has loaded the model."""

    def __init__(self, work: Work, seconds: float) -> None:
        """Start the process, and wait until it has loaded the model.

        Raises:
            ModelRefused: The model cannot be served.
            TrialUnfinished: The model was not loaded in time, or the process ended.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-m", PROGRAM, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=clean_environment(),
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                msg = f"its process cannot be started: {error.strerror}"
                raise TrialUnfinished(msg) from error
        most = work.arena_bytes + 2 * work.request_bytes
        self._frames = Frames(ours, most, _nothing)
        self._number = 0
        self.is_sending = False
        self.signature = self._loaded(work, seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], token: CancelToken | None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Compute one run; return the header of the answer, and the results.

        Raises:
            _Ended: The process ended meanwhile, or was ended.
        """
        self._number += 1
        overseer = _RunMonitor(self, token)
        self._frames.look = overseer.look
        try:
            self.is_sending = True
            self._frames.send({"run": self._number, "outputs": list(outputs)}, inputs)
            self.is_sending = False
            header, results = self._frames.receive()
        except FrameError as error:
            how = self.end(str(error))
            raise _Ended(OVERDUE if overseer.has_killed else how) from error
        except MemoryError as error:
            self.end("")
            raise _Ended("was ended: there is no memory for its results") from error
        finally:
            self._frames.look = _nothing
        if header.get("run") != self._number:
            raise _Ended(self.end("it answers another run"))
        return header, {name: _text(array) for name, array in results.items()}

    def cancel(self) -> None:
        """Tell the process to end the run between two nodes."""
        self._frames.send({"cancel": self._number})

    def end(self, why: str) -> str:
        """End the process, if it has not ended; return how it ended."""
        self._frames.close()
        try:
            # A process that crashes closes the connection before `wait` can collect it.
            status = self._process.wait(HALT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = 0
        return end_of(status) if status else f"was ended: {why}"

    def kill(self) -> None:
        """End the process at once; waiting threads find the connection closed."""
        self._process.kill()

    def _loaded(self, work: Work, seconds: float) -> Signature:
        late = time.monotonic() + seconds

        def look() -> None:
            if time.monotonic() > late:
                raise FrameError("late")

        self._frames.look = look
        try:
            self._frames.send(work.model_dump())
            signature = Signature.model_validate(self._frames.receive()[0])
        except FrameError as error:
            self.kill()
            how = self.end(str(error))
            if str(error) == "late":
                how = f"took more than {seconds:g} seconds to load it"
            raise TrialUnfinished(f"its process {how}") from error
        finally:
            self._frames.look = _nothing
        if signature.refused:
            self.end("")
            raise ModelRefused(signature.refused)
        return signature


class _RunMonitor:
    """Check, while a process computes, whether its run should continue."""

    def __init__(self, child: Child, token: CancelToken | None) -> None:
        self.has_killed = False
        self._child = child
        self._token = token
        self._kill_at = 0.0

    def look(self) -> None:
        if self._token is None or not self._token.is_cancelled:
            return
        now = time.monotonic()
        if not self._kill_at:
            self._kill_at = now + HALT_SECONDS
            # The process may still be reading a request that is not completely sent.
            if not self._child.is_sending:
                self._child.cancel()
        elif now > self._kill_at:
            self.has_killed = True
            self._child.kill()


def _nothing() -> None:
    """Let a wait go on."""


def _text(array: Array) -> Array:
    """Return strings in the form of ONNX Runtime."""
    if array.dtype.kind == "O":
        array.reshape(-1)[:] = [text.decode() for text in array.reshape(-1)]
    return array


class Processes:
    """Processes that compute one version of a model; used from many threads."""

    def __init__(
        self,
        model: tuple[str, str],
        work: Work,
        seconds: float,
        tell: Callable[[str], None],
    ) -> None:
        """Prepare the processes; `start` starts them.

        Args:
            model: Its name and version.
            work: The version that each process loads.
            seconds: Time limit for loading.
            tell: Called in another thread with the reason why the model is not ready, or with an
                empty text when it is ready again.
        """
        self._model = model
        self._work = work
        self._seconds = seconds
        self._tell = tell
        self._changed = threading.Condition()
        self._idle: list[Child] = []
        self._count = 0
        self._ends = 0
        self._is_closed = False

    def start(self, count: int) -> Signature:
        """Start ``count`` processes; return the model's inputs and outputs.

        Raises:
            ModelRefused: It cannot be served.
            TrialUnfinished: It was not loaded in time, or a process ended.
        """
        try:
            while self._count < count:
                self._add(Child(self._work, self._seconds))
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
        child = self._taken(token)
        try:
            header, results = child.run(inputs, outputs, token)
        except _Ended as ended:
            self._lose(str(ended))
            raise ModelFailed(f"the model's process {ended}") from ended
        except UnicodeError as error:
            self._give_back(child)
            raise ModelFailed(f"strings are not UTF-8: {error}") from error
        except BaseException:
            self._lose(child.end("its run could not be passed on"))
            raise
        self._give_back(child)
        if "limit" in header:
            field, expected, got = header["limit"]
            raise LimitExceeded.at(field, expected, Words(got))
        if "failed" in header:
            is_halted = token is not None and token.is_cancelled
            raise ModelFailed(UNWANTED if is_halted else header["failed"])
        return results

    def close(self) -> None:
        """End all processes, each when its run has ended; callable from any thread."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for child in idle:
            threading.Thread(target=child.end, args=("it was unloaded",), daemon=True).start()

    def _taken(self, token: CancelToken | None) -> Child:
        """Return a process that is free; a request that was admitted waits for one to its end."""
        with self._changed:
            while not self._idle:
                if self._is_closed:
                    raise ModelFailed("it was unloaded")
                if token is not None and token.is_cancelled:
                    raise ModelFailed(UNWANTED)
                self._changed.wait(CHECK_SECONDS)
            return self._idle.pop()

    def _give_back(self, child: Child) -> None:
        with self._changed:
            self._ends = 0
            self._keep(child)

    def _add(self, child: Child) -> None:
        with self._changed:
            self._count += 1
            self._keep(child)

    def _keep(self, child: Child) -> None:
        if self._is_closed:
            threading.Thread(target=child.end, args=("it was unloaded",), daemon=True).start()
            return
        self._idle.append(child)
        self._changed.notify_all()

    def _lose(self, how: str) -> None:
        """Remove a process that has ended, and start another."""
        metrics.RESTARTS.labels(*self._model).inc()
        name, version = self._model
        fields = {"model": name, "version": version, "reason": how}
        log.warning("a model's process ended", extra=fields)
        with self._changed:
            self._count -= 1
            self._ends += 1
        threading.Thread(target=self._replace, args=(how,), daemon=True).start()

    def _replace(self, how: str) -> None:
        """Start a process, and retry until one has started."""
        was_told = False
        why_not = f"its process {how}"
        while True:
            wait = self._wait
            with self._changed:
                if wait and not self._count:
                    was_told = True
                    self._tell(f"{why_not}; it is started again in {wait:g} seconds")
                self._changed.wait_for(lambda: self._is_closed, wait)
                if self._is_closed:
                    return
            try:
                child = Child(self._work, self._seconds)
            except ServiceError as error:
                why_not = str(error)
                with self._changed:
                    self._ends += 1
                continue
            self._add(child)
            if was_told:
                self._tell("")
            return

    @property
    def _wait(self) -> float:
        """Return the seconds until an ended process is replaced."""
        if self._ends <= ENDS_WITHOUT_DELAY:
            return 0.0
        return float(
            min(FIRST_WAIT * 2 ** min(self._ends - ENDS_WITHOUT_DELAY - 1, 16), LONGEST_WAIT)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class IsolatedModel(Declared):
    """One version of a model of the repository, computed in processes of its own."""

    processes: Processes
    computed_by: str

    @property
    def provider(self) -> str:
        return self.computed_by

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        scalars: Mapping[str, float],  # noqa: ARG002 - others' graphs have none
        token: CancelToken | None = None,
        *,
        reuse_inputs: bool = False,  # noqa: ARG002 - results come from another process
    ) -> dict[str, Array]:
        """Compute ``outputs``.

        Raises:
            ModelFailed: The graph could not be run on these inputs, or ended its process.
            LimitExceeded: The results are too large.
        """
        return self.processes.run(inputs, outputs, token)


def isolated(
    model: tuple[str, str],
    processes: Processes,
    *,
    batching: Batching | None,
    batching_note: str = "",
    instances: int,
    why: str,
    warmup: str = "",
) -> IsolatedModel:
    """Start ``processes`` for a version; they end when the model is no longer referenced.

    Args:
        model: Its name and version.
        processes: The processes that compute it.
        batching: The batching of its requests.
        batching_note: The reason for batching or its absence.
        instances: The number of processes.
        why: The reason for the isolation.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.

    Raises:
        ModelRefused: The model cannot be served.
        TrialUnfinished: It was not loaded in time, or a process ended.
    """
    signature = processes.start(instances)
    name, version = model
    made = IsolatedModel(
        name=name,
        version=version,
        inputs=tuple(map(_port, signature.inputs)),
        outputs=tuple(map(_port, signature.outputs)),
        optional=frozenset(signature.optional),
        unranked=frozenset(signature.unranked),
        symbols={port: tuple(symbols) for port, symbols in signature.symbols.items()},
        batching=batching,
        batching_note=batching_note,
        instances=instances,
        isolation=f"process: {why}",
        warmup=warmup,
        processes=processes,
        computed_by=signature.provider,
    )
    # Requests under way refer to the model, so that waiting requests are still answered.
    weakref.finalize(made, processes.close).atexit = False
    return made


def _port(written: tuple[str, str, list[int]]) -> Port:
    name, datatype, shape = written
    return Port(name, datatype, tuple(shape))
