"""A user's model, run everywhere, against the reference evaluator of the onnx package."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from export.certificates.document import Cell, Verdict
from export.certificates.lowering import lowered, target_of
from export.channel import Array, Value
from export.errors import NotRunnableError, TargetError
from export.model_files import files
from export.proof import coarse
from export.proof.cases import drawn
from export.proof.comparison import NOISE
from export.proof.differences import (
    SAME,
    Difference,
    Tolerance,
    between,
    described,
    dtype_of,
    is_float,
)
from export.proof.samples import Case, Samples, nudged
from export.proof.sizes import Shapes
from export.runtimes.catalogue import RUNTIMES, Runtime
from export.runtimes.running import Lost, Refused, Running

TRUTH = ("reference", "onnxruntime")
"""Whose answers are taken for what is due: the first that runs the model."""


@dataclass(frozen=True, slots=True)
class Due:
    """Inputs, and what is due for them.

    Attributes:
        case: The inputs.
        outputs: What is due.
        moved: The same for inputs whose floats are each the next one: another runtime's roundings
            change a network's outputs by some times as much.
    """

    case: Case
    outputs: Mapping[str, Array]
    moved: Mapping[str, Array]

    def between(self, name: str, got: Array | None, tolerance: Tolerance) -> Difference:
        """How far the output of that name is from what is due.

        Where huge inputs overflow, in a sum say, another order of its terms does not: what is not
        finite in either is passed over.
        """
        lenient, want = self.case.extreme, self.outputs[name]
        noise = between(want, self.moved[name], tolerance, lenient=lenient).used
        over = self.overflown(name, got)
        if got is not None and over is not None:
            want, got = (np.where(over, 0, array).astype(array.dtype) for array in (want, got))
        found = between(want, got, tolerance, lenient=lenient)
        if not noise or math.isinf(noise):
            return found
        return replace(found, used=min(found.used, found.used / (NOISE * noise)))

    def overflown(self, name: str, got: Array | None) -> Array | None:
        """Where the output of that name is not finite in either; None, if that tells something."""
        want = self.outputs[name]
        is_huge = self.case.extreme and all(map(_is_finite, self.case.inputs.values()))
        if not is_huge or not is_float(want) or got is None or described(got) != described(want):
            return None
        return ~(np.isfinite(want) & np.isfinite(got))


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
    """

    path: Path
    truth: str
    due: Sequence[Due]
    tolerance: Tolerance

    @property
    def outputs(self) -> list[str]:
        return list(self.due[0].outputs)


def network(path: Path, seed: int, seconds: float) -> Network:
    """The model in ``path`` with inputs that are drawn from what it takes.

    Raises:
        ModelError: It is no sound model, or nothing can be drawn for its inputs.
        NotRunnableError: Neither the reference evaluator nor ONNX Runtime runs it.
    """
    model = files.read(path)
    why = []
    for name in TRUTH:
        with Running(RUNTIMES[name], seconds) as running:
            try:
                running.load(path.absolute(), _inputs(model), _outputs(model))
                due = _due(model, running, seed)
            except Refused as error:
                why.append(f"{RUNTIMES[name].title}: {error}")
                continue
        if due:
            tolerance = Tolerance(coarse=bool(coarse.notes([model])))
            return Network(path, RUNTIMES[name].title, due, tolerance)
        why.append(f"{RUNTIMES[name].title} refuses all inputs that were generated")
    raise NotRunnableError(f"{path}: nothing says what is due: {'; '.join(why)}")


def _due(model: ir.Model, running: Running, seed: int) -> list[Due]:
    found: list[Due] = []
    for case in drawn(Samples(model, seed), lambda: len(found)):
        with contextlib.suppress(Refused):
            outputs = running.run(case.inputs)
            found.append(Due(case, outputs, running.run(nudged(case).inputs)))
    return found


def _inputs(model: ir.Model) -> list[str]:
    return [v.name or "" for v in model.graph.inputs if v.name not in model.graph.initializers]


def _outputs(model: ir.Model) -> list[str]:
    return [value.name or "" for value in model.graph.outputs]


@dataclass
class _Answers:
    """What a runtime gave, so far, by output."""

    differences: dict[str, Difference] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    cases: list[str] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    changes: tuple[str, ...] = ()

    def add(self, due: Due, got: Mapping[str, Array], tolerance: Tolerance) -> None:
        self.cases.append(due.case.name)
        for name in due.outputs:
            over = due.overflown(name, got.get(name))
            found = due.between(name, got.get(name), tolerance)
            self.compared[name] += due.outputs[name].size - (0 if over is None else int(over.sum()))
            if name not in self.differences or found.used > self.differences[name].used:
                self.differences[name] = found
                self.where[name] = due.case.name


def cells(network: Network, runtime: Runtime, running: Running) -> Iterator[Cell]:
    """Run ``network`` by ``runtime`` on all its inputs: a cell for each output."""
    answers = _Answers()
    verdict, why = _answers(network, runtime, running, answers)
    for name in network.outputs:
        yield _cell(network, name, answers, verdict, why)


def _answers(
    network: Network, runtime: Runtime, running: Running, answers: _Answers
) -> tuple[Verdict, str]:
    """Fill ``answers``; what ended it, if something did, or the first inputs that are refused."""
    refusals: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        loading = _Loading(network, runtime, running, Path(folder) / "model.onnx")
        for due in network.due:
            try:
                answers.changes = loading.ready(due.case)
                got = running.run(due.case.inputs)
            except TargetError as error:
                return "refused", f"gatewave lower: {error}"
            except Lost as error:
                return "crashed", f"{due.case.name}: {error}"
            except Refused as error:
                refusals.append(f"{due.case.name}: {error}")
            else:
                answers.add(due, got, network.tolerance)
    if not refusals:
        return "exact", ""
    return "refused", f"{len(refusals)} of {len(network.due)} inputs: {refusals[0]}"


@dataclass
class _Loading:
    """The model of a network, as a runtime is given it: anew for new shapes, if those are fixed."""

    network: Network
    runtime: Runtime
    running: Running
    path: Path
    shapes: Shapes | None = None
    changes: tuple[str, ...] = ()

    def ready(self, case: Case) -> tuple[str, ...]:
        """Have it load what takes ``case``; what `lower` changed.

        Raises:
            TargetError: `lower` knows that it will not run it.
            Refused: It does not load it.
        """
        shapes = {name: array.shape for name, array in case.inputs.items()}
        if self.shapes is None or (self.runtime.static and shapes != self.shapes):
            self.shapes = None
            self.changes = _write(self.network.path, self.path, self.runtime, shapes)
            self.running.load(self.path, [*case.inputs], self.network.outputs)
            self.shapes = shapes
        return self.changes


def _write(source: Path, path: Path, runtime: Runtime, shapes: Shapes) -> tuple[str, ...]:
    """Write the model as ``runtime`` is given it; what changed, in words."""
    model = files.read(source)
    if runtime.static:
        for value in model.graph.inputs:
            if (name := value.name or "") in shapes:
                value.shape = ir.Shape(shapes[name])
    changes = lowered(model, target_of(runtime))
    files.write(model, path, source=source)
    return changes


def _cell(network: Network, name: str, answers: _Answers, verdict: Verdict, why: str) -> Cell:
    found = answers.differences.get(name, SAME)
    if verdict != "crashed" and found.used > 1:
        place = found.place
        at = "" if place is None or place.index is None else f"{list(place.index)}"
        was = "" if place is None else f" is {place.rewritten!r}, not {place.original!r}"
        differs = f"{name}{at}{was} ({answers.where[name]})"
        verdict, why = "differs", "; ".join(filter(None, (differs, why)))
    want = network.due[0].outputs[name]
    return Cell(
        subject=name,
        graph="",
        dtype=dtype_of(want),
        form="model",
        changes=answers.changes,
        elements=answers.compared[name],
        verdict=verdict,
        why=why,
        ulp=found.ulp,
        absolute=found.absolute,
        used=found.used,
        cases=tuple(answers.cases),
    )
