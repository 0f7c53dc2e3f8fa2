"""Client of the worker that runs ONNX's shape inference: see `inference_worker`."""

from __future__ import annotations

import atexit
import contextlib
import threading
from pathlib import Path

import numpy as np
import onnx

from gatewave.graphs.processes.client import Client, own_variables, python_worker
from gatewave.graphs.processes.errors import NotStarted

HANDLERS = Path(__file__).with_name("inference_worker.py")

SECONDS = 60.0
"""Time limit for the inference of one model."""


class InferenceClient:
    """Client of one worker for all models, since its start takes longer than most models do.

    The first model starts it. A model that crashes it, or takes too long, ends it; the next model
    starts another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None

    def infer(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return ``model`` with the inferred types and shapes.

        Raises:
            Refused: An operator's rule failed.
            Lost: Memory did not suffice, or time (`SECONDS`).
        """
        content = np.frombuffer(model.SerializeToString(), np.uint8)
        with self._lock:
            client = self._made()
            _, values = client.start().ask("infer", values={"model": content})
        return onnx.ModelProto.FromString(values["model"].tobytes())

    def launch(self) -> None:
        """Start the worker without waiting, so that it imports onnx while the caller does more.

        If that fails, `infer` tries again, and reports it.
        """
        with self._lock, contextlib.suppress(NotStarted):
            self._made().launch()

    def _made(self) -> Client:
        if self._client is None:
            self._client = Client(python_worker(HANDLERS), own_variables(), SECONDS)
            atexit.register(self.close)
        return self._client

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            if self._client is not None:
                self._client.close()


INFERENCE = InferenceClient()
