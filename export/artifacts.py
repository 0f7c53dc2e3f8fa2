"""The folder that the service reads: every activation, certified, in every dtype and form."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import torch

from gatewave.export import plots
from gatewave.export.accuracy.certify import Measured, certify
from gatewave.export.metadata import describe
from gatewave.export.operators import FORMS, Form, decomposed, graphs_of, to_bytes, with_rank
from gatewave.graphs.errors import GatewaveError
from gatewave.graphs.files import scratch
from gatewave.graphs.ops.signature import GRAPHS, Graph
from gatewave.models import DTYPES, Activation, DType, Operator

MANIFEST = "manifest.json"
"""File that lists the others of the folder: the service refuses to start without one of them."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One ONNX file, ready to be written, and the errors measured on it."""

    name: str
    content: bytes
    measured: dict[str, Measured]


@dataclass(frozen=True, slots=True)
class Failure:
    """A graph that is not written.

    Attributes:
        stem: The operator's name in file names.
        graph: The graph of the operator.
        dtype: The type of its tensors.
        reason: The reason why it cannot be made, run or certified.
    """

    stem: str
    graph: Graph
    dtype: DType
    reason: str


OnFailure = Callable[[Failure], None]
"""Callback for each failed graph; the others are written. Without it, a failure ends the run."""

REFUSALS = (GatewaveError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)
"""Errors that concern one graph, and not necessarily the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Graphs, dtypes and forms to export of each activation.

    Attributes:
        dtypes: The element types.
        graphs: Value, derivatives, vector-Jacobian product.
        forms: One node with its function, or standard operators only.
        rank: The number of axes declared for the tensors; None leaves it open.
    """

    dtypes: tuple[DType, ...] = DTYPES
    graphs: tuple[Graph, ...] = GRAPHS
    forms: tuple[Form, ...] = FORMS
    rank: int | None = 1


def file_name(stem: str, graph: Graph, dtype: DType, form: Form) -> str:
    """``swiglu-linear.grad.float32.onnx``; ``….decomposed.onnx`` in standard operators only."""
    suffix = ".decomposed" if form == "decomposed" else ""
    return f"{stem}.{graph}.{dtype}{suffix}.onnx"


def file_names(activation: Activation, selection: Selection) -> list[str]:
    """The files that `write` makes of ``activation``."""
    stems = [activation.stem(operator) for operator in activation.operators]
    kinds = itertools.product(stems, selection.graphs, selection.dtypes, selection.forms)
    models = [file_name(*kind) for kind in kinds]
    return models + [f"{stem}.{kind}" for stem, kind in itertools.product(stems, plots.KINDS)]


def artifacts_of(
    activation: Activation, selection: Selection, failed: OnFailure | None = None
) -> Iterator[Artifact]:
    """Export ``activation``, certify each graph, and yield its files as they become ready.

    An operator of which every graph failed has no pictures either.

    Raises:
        GatewaveError: A graph misses the tolerance of its record, or cannot be made or run, and
            ``failed`` is not given.
        onnx.checker.ValidationError: A graph is not valid ONNX, likewise.
    """
    for operator in activation.operators:
        models = list(models_of(activation, operator, selection, failed))
        yield from models
        if models:
            figure = plots.draw(activation, operator)
            for kind in plots.KINDS:
                yield Artifact(
                    f"{activation.stem(operator)}.{kind}", plots.render(figure, kind), {}
                )


def models_of(
    activation: Activation,
    operator: Operator,
    selection: Selection,
    failed: OnFailure | None = None,
) -> Iterator[Artifact]:
    """The models of one operator, certified; see `artifacts_of`."""
    stem = activation.stem(operator)
    for dtype, graph in itertools.product(selection.dtypes, selection.graphs):
        try:
            made = [
                Artifact(
                    file_name(stem, graph, dtype, form),
                    content_of(model, selection),
                    certify(to_bytes(model), activation, operator, graph, dtype),
                )
                for form, model in _forms_of(activation, operator, selection, (graph, dtype))
            ]
        except REFUSALS as error:
            if failed is None:
                raise
            failed(Failure(stem, graph, dtype, str(error)))
        else:
            yield from made


def _forms_of(
    activation: Activation, operator: Operator, selection: Selection, kind: tuple[Graph, DType]
) -> Iterator[tuple[Form, ir.Model]]:
    """The models of one graph, drawn with the others, or alone where one of these fails."""
    graph, dtype = kind
    try:
        models = drawn(activation, operator, selection)
    except REFUSALS:
        one = dataclasses.replace(selection, graphs=(graph,), dtypes=(dtype,))
        models = drawn(activation, operator, one)
    return ((form, models[graph, dtype, form]) for form in selection.forms)


@functools.cache
def drawn(
    activation: Activation, operator: Operator, selection: Selection
) -> Mapping[tuple[Graph, DType, Form], ir.Model]:
    """The models of one operator with their metadata, not yet tried; they are never modified."""
    found: dict[tuple[Graph, DType, Form], ir.Model] = {}
    models = graphs_of(activation, operator, selection.dtypes, selection.graphs)
    for (graph, dtype), model in models.items():
        for form in selection.forms:
            formed = model if form == "function" else decomposed(model)
            describe(formed, activation, operator, graph=graph, dtype=dtype, form=form)
            found[graph, dtype, form] = formed
    return found


def content_of(model: ir.Model, selection: Selection) -> bytes:
    """Return the bytes of the file of ``model``.

    Raises:
        onnx.checker.ValidationError: It is not valid ONNX.
    """
    return to_bytes(with_rank(model, selection.rank), checked=selection.rank is not None)


def write(
    activations: Iterable[Activation],
    folder: Path,
    selection: Selection,
    progress: Callable[[Artifact], None] = lambda _: None,
    failed: OnFailure | None = None,
) -> list[Path]:
    """Write the artifacts of all ``activations`` into ``folder``, or leave it as it was on failure.

    With ``failed``, which is called for each graph that fails, the others are written, and old
    files of the failed graphs are removed. The folder is made if there is a file for it.

    All are made before the first is written; then each atomically replaces the file of its name.
    Files of these activations that this version no longer makes are removed; other files stay.

    Raises:
        GatewaveError: See `artifacts_of`.
        ValueError: Two of the activations have one name.
        OSError: The folder cannot be written.
    """
    activations = list(activations)
    if len({activation.name for activation in activations}) < len(activations):
        raise ValueError("two activations have one name: their files would replace each other")
    made: list[Artifact] = []
    failures: list[Failure] = []

    def tell(failure: Failure) -> None:
        failures.append(failure)
        if failed is not None:
            failed(failure)

    with _one_thread():
        for activation in activations:
            for artifact in artifacts_of(activation, selection, tell if failed else None):
                made.append(artifact)
                progress(artifact)
    if failures and not made:
        return []
    _replace(folder, made)
    _remove_stale(folder, activations)
    _remove_failed(folder, failures)
    _list(folder, made)
    return [folder / artifact.name for artifact in made]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread: samples are few, and on a busy machine Torch waits for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _replace(folder: Path, made: Sequence[Artifact]) -> None:
    """Put all files into a folder inside ``folder`` first, so that a full disk changes no file."""
    folder.mkdir(parents=True, exist_ok=True)
    with scratch.folder_in(folder) as beside:
        for artifact in made:
            (beside / artifact.name).write_bytes(artifact.content)
        for artifact in made:
            (beside / artifact.name).replace(folder / artifact.name)


def _remove_stale(folder: Path, activations: Iterable[Activation]) -> None:
    for activation in activations:
        current = set(file_names(activation, Selection()))
        ours = re.compile(rf"{activation.name}(-[^.]+)?\.(.+\.onnx|svg|png)")
        for path in folder.iterdir():
            if ours.fullmatch(path.name) and path.name not in current:
                path.unlink()


def _remove_failed(folder: Path, failures: Iterable[Failure]) -> None:
    for failure in failures:
        for form in FORMS:
            name = file_name(failure.stem, failure.graph, failure.dtype, form)
            (folder / name).unlink(missing_ok=True)


def _list(folder: Path, made: Sequence[Artifact]) -> None:
    """Write the manifest: the files ``made``, and those that it listed before and are there.

    A manifest that cannot be read is replaced.
    """
    manifest = folder / MANIFEST
    there: set[str] = set()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(manifest.read_text())["files"]
        there = {name for name in before if (folder / name).is_file()}
    files = sorted(there.union(artifact.name for artifact in made))
    with scratch.folder_in(folder) as beside:
        (beside / MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n")
        (beside / MANIFEST).replace(manifest)


def expected_files(activation: Activation, selection: Selection) -> int:
    """Return the number of files that `write` makes of ``activation``."""
    return len(file_names(activation, selection))
