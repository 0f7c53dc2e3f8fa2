"""What is due of a user's model: what the first runtime gives that takes it, and how firmly."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.channel import Array, Value
from export.errors import ModelError, NotRunnableError
from export.model_files import files
from export.proof import coarse, randomness
from export.proof.cases import drawn
from export.proof.comparison import unlike
from export.proof.differences import Difference, Tolerance, between, described, is_float
from export.proof.ports import inputs_of, outputs_of
from export.proof.samples import Case, Samples, nudged
from export.runtimes.catalogue import RUNTIMES, Runtime
from export.runtimes.running import Lost, Refused, Running

TRUTH = ("reference", "onnxruntime")
"""Whose answers are taken for what is due: the first that runs the model."""

NUDGES = 2
"""So often the inputs are moved, each float to one neighbour or the other."""

STEPS = 256.0
"""So many times what that changes an element are roundings within a network: each operator makes
some. Of an element that is stable it is nothing: in float32, the 1e-5 that it rounds to."""


@dataclass(frozen=True)
class Due:
    """Inputs, and what is due for them.

    Attributes:
        case: The inputs.
        outputs: What is due.
        moved: The same for inputs whose floats are each the next one: another runtime's roundings
            change an element by some times as much.
    """

    case: Case
    outputs: Mapping[str, Array]
    moved: Sequence[Mapping[str, Array]]

    def between(self, name: str, got: Array | None, tolerance: Tolerance) -> Difference:
        """How far the output of that name is from what is due."""
        want = self.outputs[name]
        over = self.passed_over(name, got)
        if got is None or over is None:
            return between(want, got, tolerance, lenient=False)
        known = np.where(over, want, got).astype(want.dtype)
        return between(want, known, tolerance, lenient=self.case.extreme, slack=self._slack(name))

    def passed_over(self, name: str, got: Array | None) -> Array | None:
        """The elements that say nothing; None, if ``got`` is of another type or shape.

        Where huge inputs overflow, in a sum say, another order of its terms does not: so what is
        not finite in either. And what a step of the inputs takes away: an index, or a number.
        """
        want = self.outputs[name]
        if got is None or described(got) != described(want):
            return None
        others = [moved[name] for moved in self.moved]
        if not is_float(want):
            return np.asarray(np.any([want != other for other in others], axis=0))
        finite = np.isfinite(want)
        over = np.any([finite != np.isfinite(other) for other in others], axis=0)
        if self.case.extreme and all(map(_is_finite, self.case.inputs.values())):
            over = over | ~(finite & np.isfinite(got))
        return np.asarray(over)

    def _slack(self, name: str) -> Array | None:
        """How far each element may be off for the model's own sake, in float64."""
        want = self.outputs[name]
        if not is_float(want):
            return None
        with np.errstate(all="ignore"):
            wide = want.astype(np.float64)
            steps = [np.abs(moved[name].astype(np.float64) - wide) for moved in self.moved]
        return np.asarray(STEPS * np.nan_to_num(np.max(steps, axis=0), nan=0.0, posinf=0.0))


def _is_finite(value: Value) -> bool:
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return value is None or not is_float(value) or bool(np.isfinite(value).all())


@dataclass(frozen=True)
class Network:
    """A model with inputs and what is due for them.

    Attributes:
        path: Its file.
        truth: The runtime whose answers are taken for that.
        due: For each of the inputs.
        tolerance: How far others may be from it.
        left_out: Outputs of which nothing can be said, and why.
        whole: Whether there was time for all inputs.
    """

    path: Path
    truth: Runtime
    due: Sequence[Due]
    tolerance: Tolerance
    left_out: Mapping[str, str]
    whole: bool

    def said(self) -> str:
        """What results are compared with, in words."""
        cut = "" if self.whole else "; it was given no further inputs for lack of time (--timeout)"
        return f"{self.truth.title}{cut}"

    @property
    def outputs(self) -> list[str]:
        return [name for name in self.due[0].outputs if name not in self.left_out]


def network(path: Path, seed: int, seconds: float) -> Network:
    """The model in ``path`` with inputs that are drawn from what it takes.

    Raises:
        ModelError: It is no sound model; it takes or gives something else than tensors, or nothing
            at all; or nothing can be drawn for its inputs.
        NotRunnableError: Neither the reference evaluator nor ONNX Runtime runs it, or all that it
            gives changes from run to run.
    """
    model = files.read(path)
    _check_ports(path, model)
    why = []
    for name in TRUTH:
        with Running(RUNTIMES[name], seconds) as running:
            try:
                running.load(path.absolute(), _inputs(model), _outputs(model))
                found = _Truth(model, running, seed)
                found.ask()
            except Refused as error:
                why.append(f"{RUNTIMES[name].title}: {error}")
                continue
        tolerance = Tolerance(coarse=bool(coarse.notes([model])))
        made = Network(path, RUNTIMES[name], found.due, tolerance, found.left_out, found.whole)
        if not made.outputs:
            reasons = "; ".join(f"output {n}: {words}" for n, words in found.left_out.items())
            raise NotRunnableError(f"{path}: nothing of it can be certified: {reasons}")
        return made
    raise NotRunnableError(f"{path}: nothing says what is due: {'; '.join(why)}")


def _check_ports(path: Path, model: ir.Model) -> None:
    ports = [*(("input", p) for p in inputs_of(model)), *(("output", p) for p in outputs_of(model))]
    for kind, port in ports:
        if port.wrapped:
            what = "no tensor" if port.dtype == "unknown" else str(port)
            raise ModelError(f"{path}: {kind} {port.name!r} is {what}: expected tensors alone")
    if not model.graph.outputs:
        raise ModelError(f"{path}: it has no outputs: there is nothing to certify")


class _Truth:
    """What the model gives, run by one runtime."""

    def __init__(self, model: ir.Model, running: Running, seed: int) -> None:
        self._model = model
        self._running = running
        self._seed = seed
        self._source = np.random.default_rng(seed)
        self.due: list[Due] = []
        self.whole = True
        self.left_out = dict.fromkeys(randomness.outputs(model), "a random operator feeds it")

    def ask(self) -> None:
        """Run all cases; no further one is begun when they took as long as one run may.

        Raises:
            Refused: The runtime gives nothing for any.
        """
        refusal = Refused("an input alone is too large to be generated")
        end = time.monotonic() + self._running.seconds
        for case in drawn(Samples(self._model, self._seed), lambda: len(self.due)):
            if self.due and time.monotonic() > end:
                self.whole = False
                return
            try:
                self.due.append(self._of(case))
            except Lost:
                raise
            except Refused as error:
                refusal = error
        if not self.due:
            raise refusal

    def _of(self, case: Case) -> Due:
        outputs = self._running.run(case.inputs)
        if not self.due:
            again = self._running.run(case.inputs)
            changing = unlike(outputs, again)
            self.left_out |= dict.fromkeys(changing, "it changes from run to run")
        moved = [self._running.run(nudged(case, self._source).inputs) for _ in range(NUDGES)]
        return Due(case, outputs, moved)


def _inputs(model: ir.Model) -> list[str]:
    return [v.name or "" for v in model.graph.inputs if v.name not in model.graph.initializers]


def _outputs(model: ir.Model) -> list[str]:
    return [value.name or "" for value in model.graph.outputs]
