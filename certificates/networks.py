"""Certification of a user's model: its results on all runtimes against the baseline."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir

from gatewave.certificates.baseline import Network
from gatewave.certificates.document import Cell, CellVerdict, Point, Tried
from gatewave.certificates.expected import Expected
from gatewave.certificates.lowering import lowered, target_of
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.errors import TargetError
from gatewave.graphs.files import files
from gatewave.graphs.processes.errors import Lost, NotStarted, Refused
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.input_shapes import InputShapes
from gatewave.graphs.verify.report import evidence_of
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.tensor_difference import SAME, Difference, Place, dtype_of, is_float


@dataclass
class _OutputResults:
    """Results of a runtime for one output, over the cases so far.

    Attributes:
        tried: Case by case.
        worst: The largest difference, and its case.
        compared: The number of elements compared.
        wrong: The number of these that are out of tolerance.
        without: Cases without a baseline, by their reason.
    """

    tried: list[Tried] = field(default_factory=list)
    worst: Difference = SAME
    case: str = ""
    compared: int = 0
    wrong: int = 0
    without: dict[str, list[str]] = field(default_factory=dict)

    def compared_cases(self) -> list[str]:
        """Return the names of the cases with a baseline."""
        return [tried.name for tried in self.tried if tried.verdict != "no baseline"]

    def add(self, name: str, expected: Expected, got: Array | None, tolerance: Allowance) -> None:
        if name in expected.without:
            self.tried.append(Tried(name=expected.case.name, verdict="no baseline"))
            self.without.setdefault(expected.without[name], []).append(expected.case.name)
            return
        found, over = expected.between(name, got, tolerance), expected.passed_over(name, got)
        self.compared += expected.outputs[name].size - (0 if over is None else int(over.sum()))
        self.wrong += found.wrong
        verdict: CellVerdict = "differs" if found.used > 1 else "exact"
        self.tried.append(Tried(name=expected.case.name, verdict=verdict, used=found.used))
        if found.used > self.worst.used:
            self.worst, self.case = found, expected.case.name


@dataclass
class _RuntimeResults:
    """Results of a runtime so far, by output, and the model that it was last given."""

    outputs: dict[str, _OutputResults]
    refused: list[Tried] = field(default_factory=list)
    changes: tuple[str, ...] = ()
    model: str = ""

    def add(self, expected: Expected, got: Mapping[str, Array], tolerance: Allowance) -> None:
        for name, result in self.outputs.items():
            result.add(name, expected, got.get(name), tolerance)


def cells(network: Network, runtime: Runtime, running: RuntimeClient) -> Iterator[Cell]:
    """Run ``network`` by ``runtime`` on all its inputs: a cell for each output."""
    results = _RuntimeResults({name: _OutputResults() for name in network.outputs})
    verdict, why = _run(network, runtime, running, results)
    for name in network.outputs:
        yield _cell(network, name, results, verdict, why)


def _run(
    network: Network, runtime: Runtime, running: RuntimeClient, results: _RuntimeResults
) -> tuple[CellVerdict, str]:
    """Fill ``results``; return the verdict, and the crash or the first refusal."""
    refusals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        loading = _ModelLoader(network, runtime, running, Path(folder) / "model.onnx")
        for expected in network.expected:
            try:
                results.changes, results.model = loading.ready(expected.case)
                got = running.run(expected.case.inputs)
            except TargetError as error:
                return "refused", f"gatewave lower: {error}"
            except NotStarted:
                raise
            except Lost as error:
                results.refused.append(Tried(name=expected.case.name, verdict="crashed"))
                return "crashed", f"{expected.case.name}: {error}"
            except Refused as error:
                results.refused.append(Tried(name=expected.case.name, verdict="refused"))
                refusals[f"{expected.case.name}: {error}"] += 1
            else:
                results.add(expected, got, network.tolerance)
    if not refusals:
        return "exact", ""
    return (
        "refused",
        f"{len(results.refused)} of {len(network.expected)} inputs: {next(iter(refusals))}",
    )


@dataclass
class _ModelLoader:
    """Loader of a network into a runtime; a runtime of fixed shapes loads it for each shape."""

    network: Network
    runtime: Runtime
    running: RuntimeClient
    path: Path
    shapes: InputShapes | None = None
    given: tuple[tuple[str, ...], str] = ((), "")

    def ready(self, case: Case) -> tuple[tuple[str, ...], str]:
        """Load a model that takes ``case``; return the changes by `lower`, and its SHA-256.

        Raises:
            TargetError: `lower` knows that it will not run it.
            Refused: The runtime does not load it.
        """
        shapes = {name: array.shape for name, array in case.inputs.items()}
        if self.shapes is None or (self.runtime.static and shapes != self.shapes):
            self.shapes = None
            changes = _write(self.network.path, self.path, self.runtime, shapes)
            self.given = changes, hashlib.sha256(self.path.read_bytes()).hexdigest()
            self.running.load(self.path, [*case.inputs], self.network.outputs)
            self.shapes = shapes
        return self.given


def _write(source: Path, path: Path, runtime: Runtime, shapes: InputShapes) -> tuple[str, ...]:
    """Write the model, lowered for ``runtime``; return the changes in words."""
    model = files.read(source)
    if runtime.static:
        for value in model.graph.inputs:
            if (name := value.name or "") in shapes:
                value.shape = ir.Shape(shapes[name])
    changes = lowered(model, target_of(runtime))
    files.write(model, path, source=source)
    return changes


def _cell(
    network: Network, name: str, results: _RuntimeResults, verdict: CellVerdict, why: str
) -> Cell:
    result, want = results.outputs[name], network.expected[0].outputs[name]
    worst, place = result.worst, result.worst.place
    if worst.used > 1:
        differs = f"{name}{_where(place)} ({result.case})"
        why = "; ".join(filter(None, (why, differs) if verdict == "crashed" else (differs, why)))
        verdict = verdict if verdict == "crashed" else "differs"
    for reason, cases in result.without.items():
        verdict = "no baseline" if verdict == "exact" else verdict
        counted = f"no baseline for {len(cases)} of {len(network.expected)} inputs: {reason}"
        why = "; ".join(filter(None, (why, counted)))
    return Cell(
        subject=name,
        graph="",
        dtype=dtype_of(want),
        form="model",
        changes=results.changes,
        model=results.model,
        elements=result.compared,
        wrong=result.wrong,
        allowed=network.tolerance.words(dtype_of(want))
        if is_float(want)
        else "none: equality is required",
        verdict=verdict,
        why=why,
        ulp=worst.ulp,
        absolute=worst.absolute,
        used=worst.used,
        worst=_point(name, result.case, place) if worst.used > 1 else None,
        cases=(*result.tried, *results.refused),
        evidence=evidence_of(result.compared_cases(), network.seed),
    )


def _where(place: Place | None) -> str:
    if place is None:
        return ""
    at = "" if place.index is None else f"{list(place.index)}"
    return f"{at} is {place.rewritten!r}, not {place.original!r}"


def _point(name: str, case: str, place: Place | None) -> Point | None:
    """Return the point of the largest difference; None if the shapes differ, or for strings."""
    if place is None or place.index is None or isinstance(place.original, str | complex):
        return None
    return Point(
        case=case,
        index=place.index,
        output=name,
        due=float(place.original),
        got=float(place.rewritten),
    )
