"""Targets whose runtime is installed here, and can be asked to load a model or a node of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from gatewave.certificates.runtimes import catalogue, environments
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.processes.client import OWN_PYTHON
from gatewave.graphs.processes.errors import Lost, Refused
from gatewave.graphs.targets import Target, find
from gatewave.graphs.targets.fates import fate_of
from gatewave.graphs.targets.probe_client import SECONDS, ProbeClient
from gatewave.graphs.targets.probed_target import THIS, is_installed, known, this
from gatewave.graphs.targets.verdicts import RUNS, UNKNOWN, Live, Loading, Verdict

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

ONNX_RUNTIME_ADAPTER = "onnxruntime.py"
"""Adapter of the runtimes that `ProbeClient` can ask about single nodes."""

OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains whose operators are in ONNX Runtime itself; others come from libraries of operators."""


class InstalledOnnxRuntime:
    """An ONNX Runtime of some Python environment.

    Args:
        python: The Python that imports it.
        provider: The execution provider.
        seconds: Time limit for loading a model.
    """

    def __init__(self, python: Path, provider: str, seconds: float = SECONDS) -> None:
        self._client = ProbeClient(python, seconds)
        self._provider = provider
        self._known: dict[bytes, Verdict] = {}

    def verdict(self, model: bytes, op_type: str) -> Verdict:
        """Return the verdict on a model of one node, or of a few that are loaded together."""
        if model not in self._known:
            self._known[model] = self._judged(model, op_type)
        return self._known[model]

    def _judged(self, model: bytes, op_type: str) -> Verdict:
        try:
            refusal = self._client.refusal(model, self._provider)
        except Lost as error:
            return Verdict("refused", f"loading it {error.how}")
        fate = fate_of(refusal, op_type)
        if fate == "loads":
            return RUNS
        return Verdict("refused" if fate == "refused" else "unknown", refusal.strip())

    def load(self, path: Path, model: ir.Model) -> Loading:
        by = f"ONNX Runtime {self._client.about['version']}"
        if foreign := _foreign(model):
            return Loading(by, missing=f"it has operators of {foreign}, which need a library")
        try:
            return Loading(by, refused=self._client.refusal(path, self._provider).strip())
        except Lost as error:
            return Loading(by, refused=f"loading the model {error.how}")

    def close(self) -> None:
        self._client.close()


class InstalledRuntime:
    """Another runtime, in the environment that `gatewave runtimes install` made for it."""

    def __init__(self, runtime: Runtime) -> None:
        self._client = RuntimeClient(runtime)

    def verdict(self, model: bytes, op_type: str) -> Verdict:  # noqa: ARG002 - as `Live` has it
        """Return unknown: some runtimes take seconds to load a model even of one node."""
        return UNKNOWN

    def load(self, path: Path, model: ir.Model) -> Loading:
        by = self._client.runtime.title
        inputs, outputs = (
            [value.name or "" for value in values]
            for values in (model.graph.inputs, model.graph.outputs)
        )
        try:
            self._client.versions()
        except Refused as error:  # this tells nothing about the model
            return Loading(by, missing=f"it does not start: {error}")
        try:
            self._client.load(path.absolute(), inputs, outputs)
        except Refused as error:
            return Loading(by, refused=str(error).strip())
        return Loading(by)

    def close(self) -> None:
        self._client.close()


def _foreign(model: ir.Model) -> str:
    """Return the domains of operators that neither ONNX Runtime nor the model defines."""
    found = {
        node.domain
        for scope in scopes(model)
        for node in scope.graph
        if node.domain not in OWN_DOMAINS and node.op_identifier() not in model.functions
    }
    return ", ".join(sorted(found - {DOMAIN}))


@contextlib.contextmanager
def target_named(name: str) -> Iterator[Target]:
    """Return the target called ``name``, with its runtime if that is installed here.

    Raises:
        TargetError: No target has this name.
    """
    found = (known() or this()) if name == THIS else find(name)
    live = _live(found)
    try:
        yield replace(found, live=live)
    finally:
        if live is not None:
            live.close()


def _live(target: Target) -> Live | None:
    """Return the runtime of ``target``: our own ONNX Runtime, or one of the environments."""
    if is_installed(target):
        provider = target.name.rstrip(")").replace(", ", "-").rpartition("-")[2]
        return InstalledOnnxRuntime(OWN_PYTHON, PROVIDERS[provider])
    for runtime in catalogue.RUNTIMES.values():
        if runtime.target in ("", THIS) or find(runtime.target).name != target.name:
            continue
        if environments.is_installed(runtime) and environments.is_possible(runtime):
            if runtime.worker == ONNX_RUNTIME_ADAPTER:
                return InstalledOnnxRuntime(environments.python(runtime), PROVIDERS["cpu"])
            return InstalledRuntime(runtime)
    return None
