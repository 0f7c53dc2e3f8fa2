"""Installed runtimes, which can be asked to load a model or single nodes of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from gatewave.certificates.runtimes import catalogue, environments
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.certificates.runtimes.running import Running
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.processes.channel import Refused
from gatewave.graphs.targets import Target, find
from gatewave.graphs.targets.fates import fate_of
from gatewave.graphs.targets.probe import SECONDS, ProbeWorker
from gatewave.graphs.targets.probed_target import THIS, is_installed, known, this
from gatewave.graphs.targets.verdicts import RUNS, UNKNOWN, Live, Loading, Verdict

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

ONNX_RUNTIME_WORKER = "onnxruntime.py"
"""Adapter of the runtimes with which `ProbeWorker` can talk."""

OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains whose operators are in ONNX Runtime itself; others come from libraries of operators."""


class LiveOnnxRuntime:
    """An ONNX Runtime of some Python environment, in a process that may crash.

    Args:
        python: The Python that imports it.
        provider: The execution provider.
        seconds: Limit on loading a model.
    """

    def __init__(self, python: Path, provider: str, seconds: float = SECONDS) -> None:
        self._python = python
        self._seconds = seconds
        self._provider = provider
        self._worker: ProbeWorker | None = None
        self._known: dict[bytes, Verdict] = {}

    def verdict(self, model: bytes, op_type: str) -> Verdict:
        """Return the verdict on a model of one node, or of a few that are loaded together."""
        if model not in self._known:
            self._known[model] = self._judged(model, op_type)
        return self._known[model]

    def _judged(self, model: bytes, op_type: str) -> Verdict:
        worker = self._started()
        answer = worker.load(model, self._provider)
        if answer is None:
            return Verdict("refused", f"loading it {worker.ended}")
        fate = fate_of(answer, op_type)
        if fate == "loads":
            return RUNS
        reason = str(answer.get("refused", "")).strip()
        return Verdict("refused" if fate == "refused" else "unknown", reason)

    def load(self, path: Path, model: ir.Model) -> Loading:
        worker = self._started()
        version = worker.about["version"]
        by = f"ONNX Runtime {version}"
        if foreign := _foreign(model):
            return Loading(by, missing=f"it has operators of {foreign}, which need a library")
        answer = worker.load(path, self._provider)
        if answer is None:
            return Loading(by, refused=f"loading the model {worker.ended}")
        return Loading(by, refused=str(answer.get("refused", "")).strip())

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _started(self) -> ProbeWorker:
        if self._worker is not None and self._worker.ended:
            self.close()
        if self._worker is None:
            self._worker = ProbeWorker(self._python, self._seconds).start()
        return self._worker


class LiveRuntime:
    """Another runtime, in the environment that `gatewave runtimes install` made of it."""

    def __init__(self, runtime: Runtime) -> None:
        self._running = Running(runtime)

    def verdict(self, model: bytes, op_type: str) -> Verdict:  # noqa: ARG002 - as `Live` has it
        """Return unknown: some of these runtimes take seconds to load a model, even of one node."""
        return UNKNOWN

    def load(self, path: Path, model: ir.Model) -> Loading:
        by = self._running.runtime.title
        inputs, outputs = (
            [value.name or "" for value in values]
            for values in (model.graph.inputs, model.graph.outputs)
        )
        try:
            self._running.load(path.absolute(), inputs, outputs)
        except Refused as error:
            return Loading(by, refused=str(error).strip())
        return Loading(by)

    def close(self) -> None:
        self._running.close()


def _foreign(model: ir.Model) -> str:
    """The domains of operators that are neither ONNX Runtime's nor functions of the model."""
    found = {
        node.domain
        for scope in scopes(model)
        for node in scope.graph
        if node.domain not in OWN_DOMAINS and node.op_identifier() not in model.functions
    }
    return ", ".join(sorted(found - {DOMAIN}))


@contextlib.contextmanager
def target_named(name: str) -> Iterator[Target]:
    """Give the target called ``name``, with the runtime itself where it is installed here.

    Raises:
        TargetError: There is none.
    """
    found = (known() or this()) if name == THIS else find(name)
    live = _live(found)
    try:
        yield replace(found, live=live)
    finally:
        if live is not None:
            live.close()


def _live(target: Target) -> Live | None:
    """The installed ONNX Runtime if it is that version, or else an environment of the target."""
    if is_installed(target):
        provider = target.name.rstrip(")").replace(", ", "-").rpartition("-")[2]
        return LiveOnnxRuntime(Path(sys.executable), PROVIDERS[provider])
    for runtime in catalogue.RUNTIMES.values():
        if runtime.target in ("", THIS) or find(runtime.target).name != target.name:
            continue
        if environments.is_installed(runtime) and environments.is_possible(runtime):
            if runtime.worker == ONNX_RUNTIME_WORKER:
                return LiveOnnxRuntime(environments.python(runtime), PROVIDERS["cpu"])
            return LiveRuntime(runtime)
    return None
