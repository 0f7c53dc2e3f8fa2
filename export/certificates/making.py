"""A certificate made: every runtime, on everything that it is to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export import machine
from export.certificates import activations, networks
from export.certificates.activations import Subject, subjects
from export.certificates.document import Cell, Certificate, Row, model_digest
from export.errors import NotRunnableError
from export.runtimes.catalogue import Runtime
from export.runtimes.running import Refused, Running
from export.signature import GRAPHS, Graph
from models import DTYPES, Activation, DType


@dataclass(frozen=True, slots=True)
class Plan:
    """What to certify.

    Attributes:
        runtimes: Which are to run it.
        graphs: Value, derivatives, vector-Jacobian product.
        dtypes: Of the tensors; of each runtime, those that it has.
        seed: What the inputs of a user's model are drawn with.
        seconds: That a runtime may take to start, to load a model, and to run it, each.
    """

    runtimes: Sequence[Runtime]
    graphs: Sequence[Graph] = GRAPHS
    dtypes: Sequence[DType] = DTYPES
    seed: int = 0
    seconds: float = 120.0

    def subjects(self, activation: Activation, runtime: Runtime) -> list[Subject]:
        """What ``runtime`` is to run of ``activation``."""
        dtypes = [dtype for dtype in self.dtypes if dtype in runtime.dtypes]
        return list(subjects(activation, self.graphs, dtypes))


Progress = Callable[[Runtime, Cell], None]


Cells = Callable[[Runtime, Running], Iterable[Cell]]
"""What a runtime makes of everything that it is to run."""


def of_activation(
    activation: Activation, plan: Plan, progress: Progress = lambda _, __: None
) -> Certificate:
    """Run ``activation`` on all of the plan's runtimes.

    What a runtime refuses, gets wrong, or dies of, is in the certificate, and ends nothing.
    """
    contents: dict[str, bytes] = {}
    for subject in subjects(activation, plan.graphs, plan.dtypes):
        contents |= activations.models(subject)

    def cells(runtime: Runtime, running: Running) -> Iterator[Cell]:
        for subject in plan.subjects(activation, runtime):
            yield activations.cell(subject, runtime, running)

    return _made(_Work("activation", activation.name, contents, cells), plan, progress)


def of_model(path: Path, plan: Plan, progress: Progress = lambda _, __: None) -> Certificate:
    """Run the model in ``path`` on all of the plan's runtimes, each on what `lower` makes of it.

    Raises:
        ModelError: It is no sound model, or nothing can be drawn for its inputs.
        NotRunnableError: Nothing says what is due.
    """
    network = networks.network(path, plan.seed, plan.seconds)

    def cells(runtime: Runtime, running: Running) -> Iterator[Cell]:
        if not runtime.models:
            raise NotRunnableError(f"{runtime.title} is for activations; it runs no models")
        return networks.cells(network, runtime, running)

    work = _Work("model", path.name, {path.name: path.read_bytes()}, cells)
    return _made(work, plan, progress)


@dataclass(frozen=True, slots=True)
class _Work:
    kind: Literal["activation", "model"]
    name: str
    contents: Mapping[str, bytes]
    cells: Cells


def _made(work: _Work, plan: Plan, progress: Progress) -> Certificate:
    return Certificate(
        name=work.name,
        kind=work.kind,
        models={name: model_digest(content) for name, content in work.contents.items()},
        made=machine.today(),
        machine=machine.words(),
        seed=plan.seed,
        rows=tuple(_row(runtime, plan, work.cells, progress) for runtime in plan.runtimes),
    )


def _row(runtime: Runtime, plan: Plan, cells: Cells, progress: Progress) -> Row:
    empty = Row(runtime=runtime.name, title=runtime.title)
    found = []
    try:
        with Running(runtime, plan.seconds) as running:
            versions = running.versions()
            for cell in cells(runtime, running):
                found.append(cell)
                progress(runtime, cell)
    except (NotRunnableError, Refused) as error:
        return empty.model_copy(update={"why": str(error)})
    return empty.model_copy(update={"versions": versions, "cells": tuple(found)})
