"""One process of an isolated model, as the serving process sees it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import ModelRefused
from gatewave.service.repository.isolation.frames import FrameError, Frames
from gatewave.service.repository.isolation.messages import IsolationSetup, Signature
from gatewave.service.repository.trial.process import (
    TrialUnfinished,
    end_of,
    public_environment,
)
from gatewave.service.system.cancellation import CancelToken

PROGRAM = "gatewave.service.repository.isolation.program"

CANCEL_SECONDS = 1.0
"""Seconds in which a cancelled run must end. Then its process is ended: some nodes never return,
such as ``Conv`` with an empty kernel (ADR 25), and ONNX Runtime checks the flag between nodes."""

NOT_CANCELLED = "was ended: its run did not end after its cancellation"


class ProcessEnded(Exception):  # noqa: N818 - a state of a process
    """The process has ended, or was ended; the message says how."""


class ModelProcess:
    """One process that has loaded the model; it computes one run at a time."""

    def __init__(self, setup: IsolationSetup, seconds: float) -> None:
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
                    env=public_environment(),
                    pass_fds=(theirs.fileno(),),
                )
            except OSError as error:
                ours.close()
                msg = f"the model's process cannot be started: {error.strerror}"
                raise TrialUnfinished(msg) from error
        # Results are allocated in the arena; the process may have been damaged by its graph, so a
        # larger answer is refused before memory is allocated for it.
        max_bytes = setup.arena_bytes + 2 * setup.request_bytes
        self._frames = Frames(ours, max_bytes, _continue)
        self._number = 0
        self.is_sending = False
        self.signature = self._load(setup, seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], token: CancelToken | None
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Compute one run; return the header of the answer, and the results.

        Raises:
            ProcessEnded: The process ended meanwhile, or was ended.
        """
        self._number += 1
        monitor = RunMonitor(self, token)
        self._frames.check_wait = monitor.check
        try:
            self.is_sending = True
            self._frames.send({"run": self._number, "outputs": list(outputs)}, inputs)
            self.is_sending = False
            header, results = self._frames.receive()
        except FrameError as error:
            end = self.end(str(error))
            raise ProcessEnded(NOT_CANCELLED if monitor.has_killed else end) from error
        except MemoryError as error:
            self.end("")
            raise ProcessEnded("was ended: there is no memory for its results") from error
        finally:
            self._frames.check_wait = _continue
        if header.get("run") != self._number:
            raise ProcessEnded(self.end("it answered another run"))
        return header, {name: _decoded(array) for name, array in results.items()}

    def cancel(self) -> None:
        """Tell the process to end the run between two nodes."""
        self._frames.send({"cancel": self._number})

    def end(self, reason: str) -> str:
        """End the process, if it has not ended; return how it ended."""
        self._frames.close()
        try:
            # A process that crashes closes the connection before `wait` can collect its status.
            status = self._process.wait(CANCEL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = 0
        return end_of(status) if status else f"was ended: {reason}"

    def kill(self) -> None:
        """End the process at once; waiting threads find the connection closed."""
        self._process.kill()

    def _load(self, setup: IsolationSetup, seconds: float) -> Signature:
        end = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > end:
                raise FrameError("late")

        self._frames.check_wait = check
        try:
            self._frames.send(setup.model_dump())
            signature = Signature.model_validate(self._frames.receive()[0])
        except FrameError as error:
            self.kill()
            how = self.end(str(error))
            if str(error) == "late":
                how = f"took more than {seconds:g} seconds to load the model"
            raise TrialUnfinished(f"the model's process {how}") from error
        finally:
            self._frames.check_wait = _continue
        if signature.refused:
            self.end("")
            raise ModelRefused(signature.refused)
        return signature


class RunMonitor:
    """Checks, while a process computes, whether its run is cancelled, and ends it.

    The process gets `CANCEL_SECONDS` to end the run itself, and is killed afterwards.
    """

    def __init__(self, process: ModelProcess, token: CancelToken | None) -> None:
        self.has_killed = False
        self._process = process
        self._token = token
        self._kill_at = 0.0

    def check(self) -> None:
        if self._token is None or not self._token.is_cancelled:
            return
        now = time.monotonic()
        if not self._kill_at:
            self._kill_at = now + CANCEL_SECONDS
            # A message in the middle of a request that is not completely sent would be part of it.
            if not self._process.is_sending:
                self._process.cancel()
        elif now > self._kill_at:
            self.has_killed = True
            self._process.kill()


def _continue() -> None:
    """Let a wait continue."""


def _decoded(array: Array) -> Array:
    """Return strings as ``str``, as ONNX Runtime gives them; other arrays unchanged."""
    if array.dtype.kind == "O":
        array.reshape(-1)[:] = [text.decode() for text in array.reshape(-1)]
    return array
