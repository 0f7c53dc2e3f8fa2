"""Certification: run an activation or a model on all runtimes, and compare the results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gatewave.certificates import networks
from gatewave.certificates.baseline import with_baseline
from gatewave.certificates.baseline_run import BaselineSettings
from gatewave.certificates.document import (
    Allowed,
    Baseline,
    Cell,
    Certificate,
    Inputs,
    Row,
    model_digest,
)
from gatewave.certificates.runtimes.catalogue import Runtime
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.export import machine
from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.files import files, storage
from gatewave.graphs.ops.signature import GRAPHS, Graph
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Array
from gatewave.graphs.verify.allowance import Allowance
from gatewave.models import DTYPES, Activation, DType

if TYPE_CHECKING:
    from gatewave.certificates.activations import Subject


@dataclass(frozen=True, slots=True)
class CertificationPlan:
    """Settings of a certification.

    Attributes:
        runtimes: The runtimes.
        graphs: Value, derivatives, vector-Jacobian product; of activations.
        dtypes: Element types of the tensors that a runtime has; for activations.
        seed: Seed of the generated inputs of a user's model.
        seconds: Limit on each of: the start of a runtime, loading a model, running it.
        tolerance: The allowed difference of floats from the baseline; for models.
        inputs: A file of arrays that replace the generated inputs of a model.
        arrays: The arrays in that file, by name.
    """

    runtimes: Sequence[Runtime]
    graphs: Sequence[Graph] = GRAPHS
    dtypes: Sequence[DType] = DTYPES
    seed: int = 0
    seconds: float = 120.0
    tolerance: Allowed = Allowed()  # noqa: RUF009 - frozen
    inputs: Path | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)

    def settings(self) -> BaselineSettings:
        """Return the settings for trying a user's model."""
        bounds = self.tolerance
        arrays = None if self.inputs is None else self.arrays
        return BaselineSettings(self.seed, Allowance(bounds.rtol, bounds.atol, bounds.ulp), arrays)

    def subjects(self, activation: Activation, runtime: Runtime) -> list[Subject]:
        """Return the subjects of ``activation`` that ``runtime`` runs."""
        from gatewave.certificates import activations  # noqa: PLC0415 - as in `of_activation`

        dtypes = [dtype for dtype in self.dtypes if dtype in runtime.dtypes]
        return list(activations.subjects(activation, self.graphs, dtypes))


OF_FORMULA = (
    "the record's formula: mpmath for float64; for smaller types, the record's decomposition in "
    "float64, checked with mpmath"
)
"""Description of an activation's expected results; see `gatewave.export.accuracy.reference`."""

CellProgress = Callable[[Runtime, Cell], None]


RunCells = Callable[[Runtime, RuntimeClient], Iterable[Cell]]
"""Runs all subjects or models on one runtime and yields the cells."""


def of_activation(
    activation: Activation, plan: CertificationPlan, progress: CellProgress = lambda _, __: None
) -> Certificate:
    """Run ``activation`` on all of the plan's runtimes.

    Refusals, wrong results and crashes of a runtime are entries; the other runtimes go on.
    """
    # It imports Torch, without which models are certified.
    from gatewave.certificates import activations  # noqa: PLC0415

    models: dict[str, str] = {}
    for subject in activations.subjects(activation, plan.graphs, plan.dtypes):
        found = activations.models(subject)
        models |= {name: model_digest(content) for name, content in found.items()}

    def cells(runtime: Runtime, running: RuntimeClient) -> Iterator[Cell]:
        chosen = plan.subjects(activation, runtime)
        if not chosen:
            raise NotRunnableError(f"it has none of {', '.join(plan.dtypes)}")
        for subject in chosen:
            yield activations.cell(subject, runtime, running)

    baseline = Baseline(level="formula")
    work = _Work("activation", activation.name, models, OF_FORMULA, baseline, cells)
    return _made(work, plan, progress)


def of_model(
    path: Path, plan: CertificationPlan, progress: CellProgress = lambda _, __: None
) -> Certificate:
    """Run the model in ``path``, lowered for each runtime, on the plan's runtimes.

    The runtime whose values are the baseline is not compared with itself; graphs and dtypes of the
    plan are not for models.

    Raises:
        ModelError: It is not a sound model of tensors, or no inputs can be generated for it.
        NotRunnableError: No implementation gives a baseline.
    """
    network = with_baseline(path, plan.seed, plan.seconds, plan.settings())

    def cells(runtime: Runtime, running: RuntimeClient) -> Iterator[Cell]:
        if runtime is network.baseline_runtime:
            raise NotRunnableError("its values are the baseline")
        if not runtime.models:
            raise NotRunnableError("it is for activations, and runs no models")
        return networks.cells(network, runtime, running)

    digests = _digests(path)
    said, baseline = network.said(), network.baseline
    work = _Work("model", path.name, digests, said, baseline, cells, network.left_out)
    return _made(work, plan, progress)


def _digests(path: Path) -> dict[str, str]:
    """Return the SHA-256 of the model in ``path`` and of its files with external data, by name."""
    found = {path.name: model_digest(path.read_bytes())}
    folder = path.parent.resolve()
    for data in storage.data_files(files.read(path)):
        with data.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found[data.resolve().relative_to(folder).as_posix()] = digest
    return found


def _given(plan: CertificationPlan) -> Inputs | None:
    if plan.inputs is None:
        return None
    digests = {name: _array_digest(array) for name, array in plan.arrays.items()}
    return Inputs(file=plan.inputs.name, sha256=digests)


def _array_digest(array: Array) -> str:
    kind = f"{array.dtype.name} {list(array.shape)}\n".encode()
    return hashlib.sha256(kind + array.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Work:
    kind: Literal["activation", "model"]
    name: str
    models: Mapping[str, str]
    truth: str
    baseline: Baseline
    cells: RunCells
    left_out: Mapping[str, str] = field(default_factory=dict)


def _made(work: _Work, plan: CertificationPlan, progress: CellProgress) -> Certificate:
    return Certificate(
        name=work.name,
        kind=work.kind,
        models=dict(work.models),
        truth=work.truth,
        baseline=work.baseline,
        tolerance=plan.tolerance,
        inputs=_given(plan),
        left_out=dict(work.left_out),
        made=machine.today(),
        machine=machine.words(),
        seed=plan.seed,
        rows=tuple(_row(runtime, plan, work.cells, progress) for runtime in plan.runtimes),
    )


def _row(runtime: Runtime, plan: CertificationPlan, cells: RunCells, progress: CellProgress) -> Row:
    empty = Row(runtime=runtime.name, title=runtime.title)
    found = []
    try:
        with RuntimeClient(runtime, plan.seconds) as running:
            # A runtime that runs no models refuses here, before its process is started.
            results = cells(runtime, running)
            versions = running.versions()
            for cell in results:
                found.append(cell)
                progress(runtime, cell)
    except (NotRunnableError, Refused) as error:
        return empty.model_copy(update={"why": str(error)})
    return empty.model_copy(update={"versions": versions, "cells": tuple(found)})
