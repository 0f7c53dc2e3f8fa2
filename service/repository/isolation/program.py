"""Program of a process that computes one isolated model.

The argument is the descriptor of its connection to the service. The first message says what to
load, and the answer describes the model's inputs and outputs. Then the program computes one run
after the other. It ends with the connection, also during a run, so it never outlives the service.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import LimitExceeded, ModelFailed, Overloaded, ServiceError
from gatewave.service.repository import config as configs
from gatewave.service.repository.files import read_tried
from gatewave.service.repository.isolation.frames import FrameError, Frames
from gatewave.service.repository.isolation.messages import IsolationSetup, Signature
from gatewave.service.repository.model import RepositoryModel, open_model
from gatewave.service.repository.trial import process_limits
from gatewave.service.repository.trial.warmup import warm_up
from gatewave.service.serving.sizes import check_results
from gatewave.service.system.cancellation import CancelToken

MAX_FRAME_BYTES = 1 << 40
"""Largest request. The service limits requests, and the memory of this process is limited."""


class RunExecutor:
    """Computation of runs in a separate thread, so that messages are read meanwhile."""

    def __init__(self, frames: Frames, model: RepositoryModel, output_bytes: int) -> None:
        self.frames = frames
        self.model = model
        self.output_bytes = output_bytes
        self._runs: queue.SimpleQueue[tuple[dict[str, Any], dict[str, Array], CancelToken]]
        self._runs = queue.SimpleQueue()
        self._under_way: dict[int, CancelToken] = {}
        threading.Thread(target=self._compute_all, daemon=True).start()

    def handle(self, header: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Begin the run that ``header`` requests, or cancel one."""
        if "cancel" in header:
            token = self._under_way.get(header["cancel"])
            if token is not None:
                token.cancel()
            return
        token = self._under_way[header["run"]] = CancelToken()
        self._runs.put((header, tensors, token))

    def _compute_all(self) -> None:
        while True:
            self._compute(*self._runs.get())

    def _compute(
        self, header: dict[str, Any], tensors: dict[str, Array], token: CancelToken
    ) -> None:
        number: int = header["run"]
        outcome: dict[str, Any] = {}
        results: dict[str, Array] = {}
        try:
            results = self.model.run(tensors, header["outputs"], {}, token)
            if self.output_bytes:
                check_results(results, self.output_bytes)
        except LimitExceeded as error:
            outcome, results = {"limit": fields_of(error)}, {}
        except (ModelFailed, Overloaded) as error:
            # A retry does not help: this process computes one run at a time, so no other run caused
            # the shortage of memory.
            outcome = {"failed": str(error)}
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave its caller waiting
            outcome = {"failed": f"the model's process failed: {type(error).__name__}"}
        del self._under_way[number]
        try:
            self.frames.send({"run": number, **outcome}, results)
        except FrameError:
            os._exit(0)
        except Exception:  # noqa: BLE001 - part of the answer may have been sent
            os._exit(1)


def fields_of(error: LimitExceeded) -> list[str]:
    """Return the field, the expected and the received value of the first error."""
    first = error.errors[0]
    return [first.field, first.expected, first.got]


def load(setup: IsolationSetup) -> RepositoryModel:
    """Load the model, and run it according to its configuration.

    Raises:
        ServiceError: The model cannot be served.
    """
    files = read_tried(Path(setup.folder), setup.digests, setup.max_bytes)
    engine = process_limits.start_engine(setup, files.size, 2 * setup.request_bytes)
    model = open_model(files, engine, frozenset(setup.shaped))
    warm_up(model, configs.parse(setup.config), setup.warmup)
    return model


def main() -> None:
    # A terminal and a service manager signal all processes; this one ends with the service.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    process_limits.forbid_core_dumps()
    frames = Frames(socket.socket(fileno=int(sys.argv[1])), MAX_FRAME_BYTES)
    try:
        setup = IsolationSetup.model_validate(frames.receive()[0])
        try:
            model = load(setup)
        except (ServiceError, MemoryError) as error:
            refused = str(error) or process_limits.OUT_OF_MEMORY
            frames.send(Signature(refused=refused).model_dump())
            return
        frames.send(Signature.of(model).model_dump())
        executor = RunExecutor(frames, model, setup.output_bytes)
        while True:
            executor.handle(*frames.receive())
    except FrameError:
        # Without the interpreter's shutdown, which would wait for a run that may never end.
        os._exit(0)


if __name__ == "__main__":
    main()
