"""ONNX's inference where it follows values, in a process that may crash: see `following`."""

from __future__ import annotations

import atexit
import threading

import onnx

from gatewave.graphs.analysis import following
from gatewave.graphs.processes.subprocesses import Ended, Process, own_python

SECONDS = 60.0
"""Limit on the time of inference."""


class Failed(Exception):  # noqa: N818 - it is an answer
    """Inference failed; the message is the end of a sentence that begins with its name."""


class Follower:
    """One process for all calls, since to start it takes longer than most models do.

    The first call starts it, and another is started where a model was too much for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Process | None = None

    def follow(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return ``model`` with the inferred types and shapes.

        Raises:
            Failed: An operator's rule did, memory was too small, or time (`SECONDS`).
        """
        content = model.SerializeToString()
        with self._lock:
            process = self._process = self._process or own_python(following.__file__)
            try:
                with process.answering(SECONDS):
                    following.send(process.requests, content)
                    wrong = following.receive(process.answers).decode()
                    found = following.receive(process.answers)
            except Ended as error:
                self._close()
                raise Failed(str(error)) from error
            except BaseException:  # an interruption too: a later answer would be taken for another
                self._close()
                raise
        if wrong:
            raise Failed(wrong)
        return onnx.ModelProto.FromString(found)

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


FOLLOWER = Follower()

atexit.register(FOLLOWER.close)
