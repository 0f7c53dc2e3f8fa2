"""Program that computes one isolated model.

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

from pydantic import BaseModel, Field

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import LimitExceeded, ModelFailed, Overloaded, ServiceError
from gatewave.service.repository import config as configs
from gatewave.service.repository.files import read_tried
from gatewave.service.repository.isolation.frames import FrameError, Frames
from gatewave.service.repository.model import Declared, opened
from gatewave.service.repository.trial import bounds, trial
from gatewave.service.repository.trial.job import Setup
from gatewave.service.serving.model import Port
from gatewave.service.serving.sizes import check_results
from gatewave.service.system.cancellation import CancelToken

MAX_FRAME = 1 << 40
"""Largest request in bytes; the service bounds requests, and the process's memory is bounded."""


class Work(Setup):
    """A version to load, and its limits.

    Attributes:
        digests: Digests of its files as they were tried.
        shaped: Inputs and outputs with a declared shape.
        warmup: The shapes of the inputs that it ran on, if sizes were raised for it.
        request_bytes: Limit on the bytes of all requests under way.
        output_bytes: Limit on the bytes of the results of one run; 0 for batched models, for which
            the service checks the results of each request.
    """

    digests: dict[str, str]
    shaped: list[str]
    warmup: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    request_bytes: int
    output_bytes: int


class Signature(BaseModel):
    """Inputs and outputs of a loaded model, or the reason why it cannot be served."""

    refused: str = ""
    provider: str = ""
    inputs: list[tuple[str, str, list[int]]] = []
    outputs: list[tuple[str, str, list[int]]] = []
    optional: list[str] = []
    unranked: list[str] = []
    symbols: dict[str, list[str | None]] = {}

    @classmethod
    def of(cls, model: Declared) -> Signature:
        return cls(
            provider=model.provider,
            inputs=[_written(port) for port in model.inputs],
            outputs=[_written(port) for port in model.outputs],
            optional=sorted(model.optional),
            unranked=sorted(model.unranked),
            symbols={name: list(symbols) for name, symbols in model.symbols.items()},
        )


def _written(port: Port) -> tuple[str, str, list[int]]:
    return port.name, port.datatype, list(port.shape)


class Computer:
    """Computation of runs in a separate thread, so that messages are read meanwhile."""

    def __init__(self, frames: Frames, model: Declared, output_bytes: int) -> None:
        self.frames = frames
        self.model = model
        self.output_bytes = output_bytes
        self._runs: queue.SimpleQueue[tuple[dict[str, Any], dict[str, Array], CancelToken]]
        self._runs = queue.SimpleQueue()
        self._under_way: dict[int, CancelToken] = {}
        threading.Thread(target=self._compute_all, daemon=True).start()

    def obey(self, header: dict[str, Any], tensors: dict[str, Array]) -> None:
        """Begin the run that ``header`` requests, or end one."""
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
        said: dict[str, Any] = {}
        results: dict[str, Array] = {}
        try:
            results = self.model.run(tensors, header["outputs"], {}, token)
            if self.output_bytes:
                check_results(results, self.output_bytes)
        except LimitExceeded as error:
            said, results = {"limit": fields_of(error)}, {}
        except (ModelFailed, Overloaded) as error:
            # Only one run uses memory at a time: another run did not cause the shortage.
            said = {"failed": str(error)}
        except Exception as error:  # noqa: BLE001 - a thread that ends would leave its caller waiting
            said = {"failed": f"its process cannot compute that: {type(error).__name__}"}
        del self._under_way[number]
        try:
            self.frames.send({"run": number, **said}, results)
        except FrameError:
            os._exit(0)
        except Exception:  # noqa: BLE001 - part of the answer may have been sent
            os._exit(1)


def fields_of(error: LimitExceeded) -> list[str]:
    """Return the field, the expected and the received value of the first error."""
    first = error.errors[0]
    return [first.field, first.expected, first.got]


def loaded(work: Work) -> Declared:
    """Load the model, and run it according to its configuration.

    Raises:
        ServiceError: The model cannot be served.
    """
    files = read_tried(Path(work.folder), work.digests, work.most_bytes)
    engine = bounds.start(work, files.size, 2 * work.request_bytes)
    model = opened(files, engine, frozenset(work.shaped))
    trial.warm(model, configs.parsed(work.config), work.warmup)
    return model


def main() -> None:
    # A terminal and a service manager signal all processes; this one ends with the service.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    bounds.forbid_core_dumps()
    frames = Frames(socket.socket(fileno=int(sys.argv[1])), MAX_FRAME)
    try:
        work = Work.model_validate(frames.receive()[0])
        try:
            model = loaded(work)
        except (ServiceError, MemoryError) as error:
            refused = str(error) or bounds.SCARCE
            frames.send(Signature(refused=refused).model_dump())
            return
        frames.send(Signature.of(model).model_dump())
        computer = Computer(frames, model, work.output_bytes)
        while True:
            computer.obey(*frames.receive())
    except FrameError:
        # Without the interpreter's shutdown, which would wait for a run that may never end.
        os._exit(0)


if __name__ == "__main__":
    main()
