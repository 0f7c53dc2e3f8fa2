"""The folder that the service reads: every activation, certified, in every dtype and form."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


from export import plots
from export.certify import Measured, certify
from export.graph import FORMS, Form, decomposed, graphs_of, to_bytes, with_rank
from export.metadata import describe
from export.signature import GRAPHS, Graph
from models import DTYPES, Activation, DType, Operator


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


def artifacts_of(activation: Activation, selection: Selection) -> Iterator[Artifact]:
    """Export ``activation``, certify each graph, and yield its files as they become ready.

    Raises:
        ToleranceExceeded: A graph misses the tolerance of its record.
        onnx.checker.ValidationError: A graph is not valid ONNX.
    """
    for operator in activation.operators:
        yield from _models(activation, operator, selection)
        figure = plots.draw(activation, operator)
        for kind in plots.KINDS:
            yield Artifact(f"{activation.stem(operator)}.{kind}", plots.render(figure, kind), {})


def _models(activation: Activation, operator: Operator, selection: Selection) -> Iterator[Artifact]:
    for (graph, dtype), model in graphs_of(activation, operator, selection.dtypes).items():
        if graph not in selection.graphs:
            continue
        for form in selection.forms:
            formed = model if form == "function" else decomposed(model)
            describe(formed, activation, operator, graph, dtype, form)
            measured = certify(to_bytes(formed), activation, operator, graph, dtype)
            shaped = to_bytes(with_rank(formed, selection.rank), checked=selection.rank is not None)
            name = file_name(activation.stem(operator), graph, dtype, form)
            yield Artifact(name, shaped, measured)


def write(
    activations: Iterable[Activation],
    folder: Path,
    selection: Selection,
    progress: Callable[[Artifact], None] = lambda _: None,
) -> list[Path]:
    """Write the artifacts of all ``activations`` into ``folder``: all of them, or, failing, none.

    They are made in a folder beside it first; then each file replaces its namesake in one step.

    Raises:
        ToleranceExceeded: See `artifacts_of`.
        OSError: The folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as made:
        names = []
        for activation in activations:
            for artifact in artifacts_of(activation, selection):
                (Path(made) / artifact.name).write_bytes(artifact.content)
                names.append(artifact.name)
                progress(artifact)
        folder.mkdir(exist_ok=True)
        for name in names:
            os.replace(Path(made) / name, folder / name)
    return [folder / name for name in names]


def expected_files(activation: Activation, selection: Selection) -> int:
    """How many files `write` makes of ``activation``."""
    models = len(selection.dtypes) * len(selection.graphs) * len(selection.forms)
    return len(activation.operators) * (models + len(plots.KINDS))
