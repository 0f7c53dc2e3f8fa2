"""Baseline of a user's model: results on which two independent implementations agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from gatewave.certificates.baseline_run import BaselineRun, BaselineSettings
from gatewave.certificates.document import Baseline
from gatewave.certificates.expected import Expected
from gatewave.certificates.runtimes.catalogue import PLAIN, RUNTIMES, Runtime
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.errors import ModelError, NotRunnableError
from gatewave.graphs.files import files
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.verify import coarse_operators
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.ports import inputs_of, outputs_of

IMPLEMENTATIONS = (RUNTIMES["reference"], PLAIN)
"""The two implementations; the first that runs the model gives the values."""


@dataclass(frozen=True)
class Network:
    """A model with inputs and the expected results for them.

    Attributes:
        path: Its file.
        baseline_runtime: The runtime whose values are the baseline; it is not compared with itself.
        expected: Expected results for each of the inputs.
        seed: Seed of the generated inputs.
        tolerance: The allowed difference of other runtimes.
        left_out: Outputs that cannot be compared, with the reason.
        whole: True if there was time for all inputs.
        baseline: Origin and support of the values.
    """

    path: Path
    baseline_runtime: Runtime
    expected: Sequence[Expected]
    seed: int
    tolerance: Allowance
    left_out: Mapping[str, str]
    whole: bool
    baseline: Baseline

    def said(self) -> str:
        """Describe the baseline in words."""
        cut = "" if self.whole else "; further inputs were left out at the time limit (--timeout)"
        return f"{self.baseline.words()}{cut}"

    @property
    def outputs(self) -> list[str]:
        return [name for name in self.expected[0].outputs if name not in self.left_out]


def with_baseline(
    path: Path, seed: int, seconds: float, settings: BaselineSettings | None = None
) -> Network:
    """Return the model in ``path`` with generated inputs, or with those given.

    Raises:
        ModelError: It is not a sound model; its inputs or outputs are not tensors, or it has
            none; no inputs can be generated for it; or the inputs given do not fit.
        NotRunnableError: Neither the reference evaluator nor ONNX Runtime runs it, or all its
            outputs change from run to run.
    """
    settings = settings or BaselineSettings()
    model = files.read(path)
    _check_ports(path, model)
    tolerance = replace(settings.tolerance, coarse=bool(coarse_operators.notes([model])))
    settings = replace(settings, tolerance=tolerance, seed=seed)
    with ExitStack() as stack:
        runnings = [
            stack.enter_context(RuntimeClient(runtime, seconds)) for runtime in IMPLEMENTATIONS
        ]
        refusals = {running.runtime.title: _refusal(running, path, model) for running in runnings}
        for first, second in (runnings, runnings[::-1]):
            if refusals[first.runtime.title]:
                continue
            run = BaselineRun(path, model, (first, second), settings)
            try:
                run.run(refusals[second.runtime.title])
            except Refused as error:
                refusals[first.runtime.title] = str(error)
                continue
            return _made(
                path, RUNTIMES["onnxruntime"] if first.runtime is PLAIN else first.runtime, run
            )
    why = "; ".join(f"{title}: {words}" for title, words in refusals.items())
    raise NotRunnableError(f"{path}: no implementation gives a baseline: {why}")


def _made(path: Path, runtime: Runtime, run: BaselineRun) -> Network:
    made = Network(
        path=path,
        baseline_runtime=runtime,
        expected=run.expected,
        seed=run.settings.seed,
        tolerance=run.settings.tolerance,
        left_out=run.left_out,
        whole=run.whole,
        baseline=run.baseline(),
    )
    if not made.outputs:
        reasons = "; ".join(f"output {n}: {words}" for n, words in run.left_out.items())
        raise NotRunnableError(f"{path}: no output can be certified: {reasons}")
    return made


def _refusal(running: RuntimeClient, path: Path, model: ir.Model) -> str:
    """Load the model in the runtime; return its reason if it refuses."""
    weights = model.graph.initializers
    inputs = [value.name or "" for value in model.graph.inputs if value.name not in weights]
    try:
        running.load(path.absolute(), inputs, [value.name or "" for value in model.graph.outputs])
    except Refused as error:
        return str(error)
    return ""


def _check_ports(path: Path, model: ir.Model) -> None:
    ports = [*(("input", p) for p in inputs_of(model)), *(("output", p) for p in outputs_of(model))]
    for kind, port in ports:
        if port.wrapped:
            what = "no tensor" if port.dtype == "unknown" else str(port)
            raise ModelError(f"{path}: {kind} {port.name!r} is {what}: expected tensors alone")
    if not model.graph.outputs:
        raise ModelError(f"{path}: it has no outputs: there is nothing to certify")
