"""Runners: models that are loaded in worker processes, in the first runtime that takes them.

ONNX Runtime comes first. If it refuses the model, it is tried again with the kernels, where there
are some. The reference evaluator of the onnx package comes last, as it is slow: it runs ``Swish``
above opset 24 and ``SwiGLU``-28, for example, for which ONNX Runtime 1.32.0 has no CPU kernel.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import onnx_ir as ir

from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.processes.client import Client, own_variables, python_worker
from gatewave.graphs.processes.errors import Lost, NotStarted, Refused
from gatewave.graphs.processes.messages import Value
from gatewave.graphs.verify.instrumentation import Cut
from gatewave.graphs.verify.random_replacement import Fixed

RunnerKind = Literal["onnxruntime", "onnxruntime with kernels", "reference"]

WORDS: Mapping[RunnerKind, str] = {
    "onnxruntime": "ONNX Runtime",
    "onnxruntime with kernels": "ONNX Runtime with the kernels",
    "reference": "the onnx reference evaluator",
}

HANDLERS = Path(__file__).with_name("worker.py")

STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})


@dataclass(frozen=True)
class Task:
    """A model to run.

    Attributes:
        path: Its file; external data is found beside it.
        kernels: A library to register where the runtime is to have one.
        timeout: Seconds that loading it may take, and each run.
        extra: Values of its graph that are wanted beside its outputs.
        fixed: Replacement of its random operators.
        cut: The nodes that are run, if not all.
        moved: The element types of values that are multiplied by factors, by name: see
            `instrumentation.multiply`.
    """

    path: Path
    kernels: Path | None
    timeout: float
    extra: Sequence[str] = ()
    fixed: Fixed | None = None
    cut: Cut | None = None
    moved: Mapping[str, int] = field(default_factory=dict)

    def runtimes(self) -> list[RunnerKind]:
        with_kernels: list[RunnerKind] = ["onnxruntime with kernels"] if self.kernels else []
        return ["onnxruntime", *with_kernels, "reference"]


class Runner:
    """A model that is loaded in a worker.

    Args:
        task: The model and its instrumentation.
        runtime: The runtime.
        host: A runner whose worker loads this model as well, to save the start of another.

    Attributes:
        client: Client of the worker.
        keys: Keys of the models that the worker has loaded.
        grown: Largest memory of a run, in bytes, beyond that of loading.

    Raises:
        Refused: The runtime does not load it.
        Lost: Loading it crashed the process, or took longer than allowed.
    """

    def __init__(self, task: Task, runtime: RunnerKind, host: Runner | None = None) -> None:
        self.task = task
        self.runtime = runtime
        self.grown = 0
        self._loaded: int | None = None
        self._host = host
        if host is None:
            self.client = Client(python_worker(HANDLERS), own_variables(), task.timeout)
            self.keys = itertools.count()
        else:
            self.client, self.keys = host.client, host.keys
        self._key = next(self.keys)
        try:
            if host is None:
                self._start()
            self._ask("load", "loading the model", self._model(), {})
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Return all outputs, by name.

        Raises:
            Refused: The runtime does not run the model on ``inputs``.
            Lost: The process crashed, or took longer than allowed.
        """
        return self._ask("run", "running the model", {}, inputs)

    def close(self) -> None:
        """End the process, unless it is another runner's."""
        if self._host is None:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _model(self) -> dict[str, Any]:
        """Return the model as the worker's handler takes it."""
        task = self.task
        library = task.kernels if self.runtime == "onnxruntime with kernels" else None
        return {
            "path": str(task.path.absolute()),
            "runtime": self.runtime.partition(" ")[0],
            "library": library and str(library.absolute()),
            "extra": list(task.extra),
            "fixed": task.fixed and asdict(task.fixed),
            "cut": task.cut and asdict(task.cut),
            "moved": dict(task.moved),
        }

    def _start(self) -> None:
        """Start the process; the import of its libraries is not part of the model's time."""
        try:
            self.client.start()
        except NotStarted as error:
            raise NotStarted(error.how, task=WORDS[self.runtime]) from error
        except Lost as error:
            raise Lost(error.how, task=f"{WORDS[self.runtime]}: starting") from error

    def _ask(
        self, method: str, task: str, params: Mapping[str, Any], values: Mapping[str, Value]
    ) -> dict[str, Value]:
        try:
            result, results = self.client.ask(method, {**params, "key": self._key}, values)
        except Lost as error:
            how = f"{error.how} (--timeout)" if error.late else error.how
            raise Lost(how, task=f"{WORDS[self.runtime]}: {task}", late=error.late) from error
        self._loaded = result["peak"] if self._loaded is None else self._loaded
        self.grown = result["peak"] - self._loaded
        return results


@dataclass
class Restarted:
    """A runner that loads its model again after a crash, since the next inputs may run."""

    task: Task
    runtime: RunnerKind
    runner: Runner

    def close(self) -> None:
        self.runner.close()

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        try:
            return self.runner.run(inputs)
        except Lost:
            self.restart()
            raise

    def restart(self) -> None:
        """Load the model in a new process."""
        self.close()
        self.runner = Runner(self.task, self.runtime)


@dataclass(frozen=True)
class Chosen:
    """A runner, and the reasons why earlier choices do not run the model."""

    runner: Runner
    why: str


def choose(
    task: Task, runtimes: Sequence[RunnerKind], hint: str = "", host: Runner | None = None
) -> Chosen:
    """Load the model in the first of ``runtimes`` that takes it.

    Raises:
        NotRunnableError: No runtime takes it.
    """
    refusals: list[str] = []
    for runtime in runtimes:
        try:
            runner = Runner(task, runtime, host)
        except Lost as error:
            refusals.append(str(error))
        except Refused as error:
            refusals.append(f"{WORDS[runtime]}: {error}")
        else:
            return Chosen(runner, "; ".join(refusals))
    reasons = "; ".join(reason for reason in (hint, *refusals) if reason)
    raise NotRunnableError(f"{task.path}: nothing runs it: {reasons}")


def onnxruntime_loads(task: Task) -> bool:
    """Return true if ONNX Runtime loads the model, with or without kernels."""
    try:
        chosen = choose(task, [runtime for runtime in task.runtimes() if runtime != "reference"])
    except NotRunnableError:
        return False
    chosen.runner.close()
    return True


def unknown_domains(model: ir.Model) -> str:
    """Describe the operators of unknown domains that have no function."""
    nodes = model.graph.all_nodes()
    domains = {
        node.domain
        for node in nodes
        if node.domain not in STANDARD and node.op_identifier() not in model.functions
    }
    if not domains:
        return ""
    return f"it uses {', '.join(sorted(domains))}, of which it has no functions for all operators"
