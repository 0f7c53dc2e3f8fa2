"""What runs a model, in a process of its own: the first runtime that takes it.

ONNX Runtime comes first. Where kernels are at hand and it refuses the model without them, it is
asked again with them; what it refuses altogether the reference evaluator of the onnx package runs,
slowly: ``Swish`` above opset 24 and ``SwiGLU``-28, for two.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self, cast

import onnx_ir as ir

from export.errors import NotRunnableError
from export.proof.channel import Value, receive, send

Runtime = Literal["onnxruntime", "onnxruntime with kernels", "reference"]

GRACE = 2.0
"""Seconds that a process may take to end by itself."""

WORDS: Mapping[Runtime, str] = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime with kernels": "ONNX Runtime with the kernels",
    "reference": "the onnx reference evaluator",
}


STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})


class Refused(Exception):  # noqa: N818 - it is an answer
    """A runtime does not load a model, or not run it on these inputs; the message is its reason."""


class Lost(Refused):
    """The process crashed, or was ended because it took too long; the runner is of no use now."""


@dataclass(frozen=True)
class Task:
    """A model to run.

    Attributes:
        path: Its file; external data is found beside it.
        kernels: A library to register where the runtime is to have one.
        timeout: Seconds that loading it may take, and each run.
        extra: Values of its graph that are wanted beside its outputs.
    """

    path: Path
    kernels: Path | None
    timeout: float
    extra: Sequence[str] = ()

    def runtimes(self) -> list[Runtime]:
        with_kernels: list[Runtime] = ["onnxruntime with kernels"] if self.kernels else []
        return ["onnxruntime", *with_kernels, "reference"]


class Runner:
    """A process that has loaded a model.

    Raises:
        Refused: The runtime does not load it.
        Lost: Loading it crashed the process, or took longer than allowed.
    """

    def __init__(self, task: Task, runtime: Runtime) -> None:
        self.task = task
        self.runtime = runtime
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "export.proof.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        library = task.kernels if runtime == "onnxruntime with kernels" else None
        message = {
            "path": str(task.path.absolute()),
            "runtime": runtime.partition(" ")[0],
            "library": library and str(library.absolute()),
            "extra": list(task.extra),
        }
        try:
            self._ask("loading the model", message, {})
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """All outputs, by name.

        Raises:
            Refused: The runtime does not run the model on ``inputs``.
            Lost: The process crashed, or took longer than allowed.
        """
        return self._ask("running the model", {}, inputs)

    def close(self) -> None:
        """Have the process end: it does when it is told nothing more, and else is ended."""
        with contextlib.suppress(BrokenPipeError):  # what was left to be sent to a dead process
            self._requests.close()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, doing: str, message: Mapping[str, Any], values: Mapping[str, Value]
    ) -> dict[str, Value]:
        late = threading.Event()
        try:
            with _deadline(self._process, self.task.timeout, late):
                send(self._requests, message, values)
                answer, results = receive(self._answers)
        except (EOFError, BrokenPipeError) as error:
            raise Lost(self._end(doing, late=late.is_set())) from error
        if "error" in answer:
            raise Refused(answer["error"])
        return results

    def _end(self, doing: str, *, late: bool) -> str:
        """How the process ended, in words."""
        if late:
            seconds = f"{self.task.timeout:g} seconds"
            return f"{WORDS[self.runtime]}: {doing} took more than {seconds} (--timeout)"
        status = self._process.wait()
        end = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        said = f": {last}" if last else ""
        return f"{WORDS[self.runtime]}: {doing} crashed the process, {end}{said}"


@dataclass
class Restarted:
    """A runner, and a new one where that is lost: what kills one run may be fine in the next."""

    task: Task
    runtime: Runtime
    runner: Runner

    def close(self) -> None:
        self.runner.close()

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        try:
            return self.runner.run(inputs)
        except Lost:
            self.close()
            self.runner = Runner(self.task, self.runtime)
            raise


@contextlib.contextmanager
def _deadline(
    process: subprocess.Popen[bytes], seconds: float, late: threading.Event
) -> Iterator[None]:
    """End ``process`` when it takes longer, which its reader then notices."""

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _environment() -> dict[str, str]:
    """Ours, with the modules that this process finds, and without the folder it happens to be in.

    A model's folder may hold a ``numpy.py``.
    """
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Chosen:
    """A runner, and why it is none of those that come before it."""

    runner: Runner
    why: str


def choose(task: Task, runtimes: Sequence[Runtime], hint: str = "") -> Chosen:
    """Load the model in the first of ``runtimes`` that takes it.

    Raises:
        NotRunnableError: None of them does.
    """
    refusals: list[str] = []
    for runtime in runtimes:
        try:
            runner = Runner(task, runtime)
        except Lost as error:
            refusals.append(str(error))
        except Refused as error:
            refusals.append(f"{WORDS[runtime]}: {error}")
        else:
            return Chosen(runner, "; ".join(refusals))
    reasons = "; ".join(reason for reason in (hint, *refusals) if reason)
    raise NotRunnableError(f"{task.path}: nothing runs it: {reasons}")


def unknown_domains(model: ir.Model) -> str:
    """What no runtime can know, in words."""
    nodes = model.graph.all_nodes()
    domains = {
        node.domain
        for node in nodes
        if node.domain not in STANDARD and node.op_identifier() not in model.functions
    }
    if not domains:
        return ""
    return f"it uses {', '.join(sorted(domains))}, of which it has no functions for all operators"
