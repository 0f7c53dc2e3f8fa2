"""The target ``this``: the installed ONNX Runtime, from its probe results or its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import onnxruntime

from gatewave.graphs.errors import TargetError
from gatewave.graphs.targets import Target, find, tables
from gatewave.graphs.targets.entries import Defect, OperatorEntry
from gatewave.graphs.targets.probe import PLAIN, PROVIDERS, Answer, ProbeResult, probe
from gatewave.graphs.targets.probe_models import (
    FUNCTION,
    OLDEST,
    OPSETS,
    PROBED,
    RELU_CLIP,
    SILU,
    Probed,
)
from gatewave.graphs.targets.ranges import VersionRange
from gatewave.models import DTYPES, DType

LEAST_OPSET = 7
LEAST_IR = 3
"""Oldest IR version that ONNX Runtime promises to read; IR versions before 8 are not tried."""

EVIDENCE = "probed"

THIS = "this"

CPU = "CPUExecutionProvider"

DOMAINS = ("com.microsoft", "ai.onnx.ml")
"""Domains of ONNX Runtime's own operators and of classical machine learning; wheels have both."""


def this(folder: Path | None = None) -> Target:
    """Return the installed runtime, with the first of its providers that was probed.

    Raises:
        TargetError: It does not run the simplest model.
    """
    return target_of(probe(folder))


def known() -> Target | None:
    """Return the installed runtime as its file describes it; None if the file is of another wheel.

    The file has what probing would find, and needs no probing. Tests compare the two.
    """
    version = _short(onnxruntime.__version__)
    table = tables.of("onnxruntime", version)
    others = {*onnxruntime.get_available_providers()} & {*PROVIDERS} - {CPU}
    if table is None or table.exact != onnxruntime.__version__ or others:
        return None
    name = f"{THIS} (onnxruntime {onnxruntime.__version__}, cpu)"
    return replace(find(f"onnxruntime-{version}-cpu"), name=name)


def is_installed(target: Target) -> bool:
    """Return true if ``target`` is the installed ONNX Runtime: ``this``, or its version's file."""
    version = _short(onnxruntime.__version__)
    return target.name.startswith(f"{THIS} ") or target.name == f"onnxruntime-{version}-cpu"


def _short(version: str) -> str:
    """Return the version as target files have it."""
    return ".".join(version.split(".")[:2])


def target_of(answer: Answer) -> Target:
    """Return the probe results of a runtime in the form of a target.

    Raises:
        TargetError: It does not run the simplest model.
    """
    provider = answer.providers[0]
    rows = [row for row in answer.rows if row.provider == provider]
    plain = [r for r in _ran(rows, PLAIN) if r.dtype == "float32"]
    if not plain:
        raise TargetError(f"onnxruntime {answer.version} runs no model with {provider}")
    word = provider.removesuffix("ExecutionProvider").lower()
    return Target(
        name=f"{THIS} (onnxruntime {answer.version}, {word})",
        opsets=VersionRange((LEAST_OPSET,), (max(row.opset for row in plain),)),
        ir=VersionRange((LEAST_IR,), (max(row.ir for row in plain),)),
        functions=any(True for _ in _ran(rows, FUNCTION)),
        dtypes=tuple(dtype for dtype in DTYPES if dtype in {r.dtype for r in _ran(rows, PLAIN)}),
        domains=DOMAINS,
        operators=tuple(entry for probed in PROBED for entry in _operators(rows, probed)),
        defects=tuple(_defects(rows)),
        table=tables.of("onnxruntime", _short(answer.version)),
    )


def _ran(rows: Iterable[ProbeResult], probed: Probed) -> Iterator[ProbeResult]:
    return (row for row in rows if row.operator == str(probed) and row.outcome == "runs")


def _operators(rows: Iterable[ProbeResult], probed: Probed) -> Iterator[OperatorEntry]:
    """Yield an entry for each stretch of opsets; one without element types if it never ran."""
    ran: dict[DType, set[int]] = defaultdict(set)
    for row in _ran(rows, probed):
        ran[row.dtype].add(row.opset)
    alike: dict[VersionRange, list[DType]] = defaultdict(list)
    for dtype, opsets in ran.items():
        for stretch in _stretches(opsets, standard=not probed.identifier[0]):
            alike[stretch].append(dtype)
    name = "::".join(part for part in probed.identifier if part)
    attributes = {} if probed.any_attributes else dict(probed.attributes)
    for stretch, dtypes in alike.items() or [(VersionRange(), [])]:
        yield OperatorEntry(
            operator=name,
            opsets=stretch,
            dtypes=tuple(dtypes),
            attributes=attributes,
            evidence=EVIDENCE,
        )


def _stretches(opsets: set[int], *, standard: bool) -> Iterator[VersionRange]:
    """Yield the stretches of opsets without a gap among those that were tried."""
    if not standard:
        yield VersionRange()
        return
    start: int | None = None
    for opset, following in zip(OPSETS, (*OPSETS[1:], 0), strict=True):
        start = opset if opset in opsets and start is None else start
        if start is not None and following not in opsets:
            yield VersionRange(None if start == OLDEST else (start,), (opset,))
            start = None


def _defects(rows: list[ProbeResult]) -> Iterator[Defect]:
    apart = [r for r in _ran(rows, Probed(("", "Sigmoid"))) if r.dtype == "float64"]
    together = [r for r in _ran(rows, SILU) if r.dtype == "float64"]
    if apart and not together:
        yield Defect(
            defect="float64-silu",
            says="x·Sigmoid(αx) in float64 is not run, though Sigmoid and Mul are",
            evidence=EVIDENCE,
        )
    plain, cut = ({r.dtype for r in _ran(rows, probed)} for probed in (PLAIN, RELU_CLIP))
    if "float64" in plain - cut:
        yield Defect(
            defect="relu-clip",
            says="Relu before a Clip with a constant min does not load in float64, int8 and int32",
            evidence=EVIDENCE,
        )
