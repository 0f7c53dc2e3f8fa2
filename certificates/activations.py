"""Certification of our activations: subjects, model forms and cells."""

from __future__ import annotations

import functools
import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from gatewave.certificates.activation_errors import CellErrors, ExactResults, compare, wrong_kind
from gatewave.certificates.document import Cell, CellVerdict, Shaped
from gatewave.certificates.lowering import lowered, target_of
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.export import artifacts
from gatewave.export.accuracy import reference
from gatewave.export.accuracy.certify import hold_to_formula
from gatewave.export.errors import ToleranceError
from gatewave.export.operators import FORMS, Form, to_bytes
from gatewave.export.torch.arrays import array_of, tensor_of
from gatewave.graphs.errors import TargetError
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.graphs.processes.errors import Lost, NotStarted, Refused
from gatewave.models import Activation, DType, Operator

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (3, 1, 5))
"""Shapes that are run besides the vector of all samples: a scalar, no elements, several axes."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One graph of one operator, in one element type."""

    activation: Activation
    operator: Operator
    graph: Graph
    dtype: DType

    @property
    def stem(self) -> str:
        return self.activation.stem(self.operator)


def subjects(
    activation: Activation, graphs: Sequence[Graph], dtypes: Sequence[DType]
) -> Iterator[Subject]:
    for operator in activation.operators:
        for graph in graphs:
            for dtype in dtypes:
                yield Subject(activation, operator, graph, dtype)


@functools.cache
def exact_results(subject: Subject) -> ExactResults:
    """Return the samples of `reference`, and the exact results for them.

    Shorter floats are usually measured against the decomposition in float64. If that is not the
    record's formula, the formula itself gives the results: mpmath takes long, but every runtime is
    then shown to be wrong, as it should be.
    """
    activation, operator, graph = subject.activation, subject.operator, subject.graph
    names = signature.inputs(activation, graph)
    tensors = reference.samples(activation, graph, subject.dtype)
    try:
        hold_to_formula(activation, operator)
        exact = reference.exact(activation, operator, graph, tensors)
    except ToleranceError:
        exact = reference.exact(activation, operator, graph, [t.double() for t in tensors])
    return ExactResults(
        operator,
        subject.dtype,
        dict(zip(names, tensors, strict=True)),
        dict(zip(signature.outputs(activation, graph), exact, strict=True)),
    )


def models(subject: Subject) -> dict[str, bytes]:
    """Return the artifacts of ``subject`` in both forms, by the names of their files."""
    names = (
        artifacts.file_name(subject.stem, subject.graph, subject.dtype, form) for form in FORMS
    )
    return {name: _contents(subject.activation, subject.operator)[name] for name in names}


@functools.cache
def _contents(activation: Activation, operator: Operator) -> Mapping[str, bytes]:
    everything = artifacts.Selection()
    stem = activation.stem(operator)
    return {
        artifacts.file_name(stem, *kind): artifacts.content_of(model, everything)
        for kind, model in artifacts.drawn(activation, operator, everything).items()
    }


@dataclass(frozen=True, slots=True)
class Prepared:
    """Model that is given to a runtime; see `document.Cell`."""

    content: bytes
    form: Form
    changes: tuple[str, ...]


def prepared(subject: Subject, runtime: Runtime, shape: Sequence[int]) -> Prepared:
    """Return the model of ``subject`` for ``runtime`` and tensors of ``shape``.

    A runtime that runs functions gets the node with its function, any other one the decomposition.
    `lower` then replaces operators that the runtime is not known to run.

    Raises:
        TargetError: The runtime is known not to run it, whatever its form.
    """
    target = target_of(runtime)
    form: Form = "function" if target is None or target.functions else "decomposed"
    name = artifacts.file_name(subject.stem, subject.graph, subject.dtype, form)
    model = ir.from_proto(onnx.ModelProto.FromString(models(subject)[name]))
    _fix(model, shape, static=runtime.static)
    changes = lowered(model, target)
    return Prepared(to_bytes(model, checked=False), form, changes)


def _fix(model: ir.Model, shape: Sequence[int], *, static: bool) -> None:
    """Declare the shape of the tensors; real parameters are constants, not inputs."""
    dims = list(shape) if static else [f"d{axis}" for axis in range(len(shape))]
    # Artifacts have real parameters as inputs with a default (ADR 4); the defaults are certified.
    initializers = set(model.graph.initializers)
    model.graph.inputs[:] = [v for v in model.graph.inputs if v.name not in initializers]
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.shape = ir.Shape(dims)


def cell(subject: Subject, runtime: Runtime, running: RuntimeClient) -> Cell:
    """Run ``subject`` by ``runtime``, over all the samples, and in several shapes."""
    whole = exact_results(subject)
    line = _attempt(subject, runtime, running, whole, (_length(whole),))
    shapes = tuple(_shaped(subject, runtime, running, shape) for shape in SHAPES)
    wrong = next((shaped for shaped in shapes if shaped.verdict != "exact"), None)
    verdict, why = line.verdict, line.why
    if verdict == "exact" and wrong is not None:
        verdict, why = wrong.verdict, f"shape {list(wrong.shape)}: {wrong.why}"
    errors = line.errors
    numbers: dict[str, Any] = (
        {}
        if errors is None
        else {field.name: getattr(errors, field.name) for field in fields(errors)}
    )
    return Cell(
        subject=subject.stem,
        graph=subject.graph,
        dtype=subject.dtype,
        form=line.model.form if line.model else "",
        changes=line.model.changes if line.model else (),
        model=hashlib.sha256(line.model.content).hexdigest() if line.model else "",
        elements=_length(whole),
        verdict=verdict,
        why=why,
        shapes=shapes,
        evidence=None if errors is None else whole.evidence(),
        **numbers,
    )


@dataclass(frozen=True, slots=True)
class _Attempt:
    verdict: CellVerdict
    why: str = ""
    model: Prepared | None = None
    errors: CellErrors | None = None


def _attempt(
    subject: Subject,
    runtime: Runtime,
    running: RuntimeClient,
    wanted: ExactResults,
    shape: tuple[int, ...],
) -> _Attempt:
    """Run the inputs of ``wanted`` in one ``shape``."""
    try:
        model = prepared(subject, runtime, shape)
    except TargetError as error:
        return _Attempt("refused", f"gatewave lower: {error}")
    inputs = {n: array_of(tensor).reshape(shape) for n, tensor in wanted.inputs.items()}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.content)
            running.load(path, [*inputs], [*wanted.outputs])
            results = {name: tensor_of(found) for name, found in running.run(inputs).items()}
    except NotStarted:
        raise
    except Lost as error:
        return _Attempt("crashed", str(error), model)
    except Refused as error:
        return _Attempt("refused", str(error), model)
    if wrong := wrong_kind(wanted, results, shape):
        return _Attempt("differs", wrong, model)
    errors = compare(wanted, {name: tensor.flatten() for name, tensor in results.items()})
    if errors.used > 1:
        return _Attempt("differs", errors.words(), model, errors)
    return _Attempt("exact", "", model, errors)


def _shaped(
    subject: Subject, runtime: Runtime, running: RuntimeClient, shape: tuple[int, ...]
) -> Shaped:
    part = exact_results(subject).part(math.prod(shape))
    found = _attempt(subject, runtime, running, part, shape)
    return Shaped(shape=shape, verdict=found.verdict, why=found.why)


def _length(wanted: ExactResults) -> int:
    return len(next(iter(wanted.inputs.values())))
