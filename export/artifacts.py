"""The folder that the service reads: every activation, certified, in every dtype and form."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch

from export import plots, scratch
from export.certify import Measured, certify
from export.graph import FORMS, Form, decomposed, graphs_of, to_bytes, with_rank
from export.metadata import describe
from export.signature import GRAPHS, Graph
from models import DTYPES, Activation, DType, Operator

MANIFEST = "manifest.json"
"""File that lists the others of the folder: the service refuses to start without one of them."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One ONNX file, ready to be written, and the errors measured on it."""

    name: str
    content: bytes
    measured: dict[str, Measured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to export of each activation.

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


def artifacts_of(activation: Activation, selection: Selection) -> Iterator[Artifact]:
    """Export ``activation``, certify each graph, and yield its files as they become ready.

    Raises:
        ExportError: A graph misses the tolerance of its record, or cannot be made or run.
        onnx.checker.ValidationError: A graph is not valid ONNX.
    """
    for operator in activation.operators:
        yield from models_of(activation, operator, selection)
        figure = plots.draw(activation, operator)
        for kind in plots.KINDS:
            yield Artifact(f"{activation.stem(operator)}.{kind}", plots.render(figure, kind), {})


def models_of(
    activation: Activation, operator: Operator, selection: Selection
) -> Iterator[Artifact]:
    """The models of one operator, certified; see `artifacts_of`."""
    for (graph, dtype, form), model in drawn(activation, operator, selection).items():
        measured = certify(to_bytes(model), activation, operator, graph, dtype)
        name = file_name(activation.stem(operator), graph, dtype, form)
        yield Artifact(name, content_of(model, selection), measured)


@functools.cache
def drawn(
    activation: Activation, operator: Operator, selection: Selection
) -> Mapping[tuple[Graph, DType, Form], ir.Model]:
    """The models of one operator with their metadata, not yet tried; nobody changes them."""
    found: dict[tuple[Graph, DType, Form], ir.Model] = {}
    for (graph, dtype), model in graphs_of(activation, operator, selection.dtypes).items():
        for form in selection.forms if graph in selection.graphs else ():
            formed = model if form == "function" else decomposed(model)
            describe(formed, activation, operator, graph=graph, dtype=dtype, form=form)
            found[graph, dtype, form] = formed
    return found


def content_of(model: ir.Model, selection: Selection) -> bytes:
    """What the file of ``model`` holds.

    Raises:
        onnx.checker.ValidationError: It is not valid ONNX.
    """
    return to_bytes(with_rank(model, selection.rank), checked=selection.rank is not None)


def write(
    activations: Iterable[Activation],
    folder: Path,
    selection: Selection,
    progress: Callable[[Artifact], None] = lambda _: None,
) -> list[Path]:
    """Write the artifacts of all ``activations`` into ``folder``: all of them, or, failing, none.

    All are made before the first is written; then each replaces its namesake in one step. Files
    of these activations that no selection makes any more are left from another version, and are
    removed; what else the folder holds stays.

    Raises:
        ExportError: See `artifacts_of`.
        ValueError: Two of the activations have one name.
        OSError: The folder cannot be written.
    """
    activations = list(activations)
    if len({activation.name for activation in activations}) < len(activations):
        raise ValueError("two activations have one name: their files would replace each other")
    made: list[Artifact] = []
    with _one_thread():
        for activation in activations:
            for artifact in artifacts_of(activation, selection):
                made.append(artifact)
                progress(artifact)
    _replace(folder, made)
    _remove_stale(folder, activations)
    _list(folder, made)
    return [folder / artifact.name for artifact in made]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Samples are few: Torch's second thread gains nothing, and on a busy machine is waited for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _replace(folder: Path, made: Sequence[Artifact]) -> None:
    """Put all files into a folder inside ``folder`` first: a full disk then changes nothing."""
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
    """How many files `write` makes of ``activation``."""
    return len(file_names(activation, selection))
