"""Errors of an activation's results, as a certificate states them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gatewave.certificates.document import Point, Special
from gatewave.export.accuracy import certify, reference
from gatewave.export.accuracy.reference import NOT_FINITE, SPECIAL, Exact
from gatewave.graphs.evidence import Evidence
from gatewave.models import DType, Operator


@dataclass(frozen=True, slots=True)
class ExactResults:
    """Inputs of an operator's graph, and the exact results.

    Attributes:
        operator: The record has its tolerances.
        dtype: Element type of all tensors.
        inputs: Flat tensors of one length, by name.
        outputs: Exact results by name.
    """

    operator: Operator
    dtype: DType
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Exact]

    def evidence(self) -> Evidence:
        """Return the level of evidence of results that are compared with these."""
        found = reference.evidence([*self.inputs.values()])
        if not self.operator.reals:
            return found
        drawn = f"{found.drawn}, with the default of {', '.join(self.operator.reals)}"
        return found.model_copy(update={"drawn": drawn})

    def part(self, count: int) -> ExactResults:
        """Return the first ``count`` elements."""
        return ExactResults(
            self.operator,
            self.dtype,
            {name: tensor[:count] for name, tensor in self.inputs.items()},
            {n: Exact(e.high[:count], e.low[:count]) for n, e in self.outputs.items()},
        )


@dataclass(frozen=True, slots=True)
class CellErrors:
    """The largest errors over all outputs; see `document.Cell`."""

    ulp: float
    absolute: float
    used: float
    wrong: int
    allowed: str
    worst: Point | None
    special: tuple[Special, ...]

    def words(self) -> str:
        """Describe the largest error in words."""
        if math.isinf(self.used):
            return "finite instead of NaN or infinity, or the reverse"
        return f"{self.used:.3g} times the allowed error"


def wrong_kind(exact: ExactResults, results: Mapping[str, Tensor], shape: tuple[int, ...]) -> str:
    """Return the fault in names, types or shapes of ``results``; empty if there is none."""
    kind = getattr(torch, exact.dtype)
    for name in exact.outputs:
        if name not in results:
            return f"there is no output {name}"
        got = results[name]
        if got.dtype != kind:
            return f"{name} is {str(got.dtype).removeprefix('torch.')}, not {exact.dtype}"
        if tuple(got.shape) != shape:
            return f"{name} has shape {list(got.shape)}, not {list(shape)}"
    return ""


def compare(exact: ExactResults, results: Mapping[str, Tensor]) -> CellErrors:
    """Compare flat ``results`` with the exact ones, element by element."""
    scale = certify.scale_of(exact.operator, exact.inputs)
    infinite = torch.stack(list(exact.inputs.values())).isinf().any(dim=0)
    shares, found = {}, []
    for name, want in exact.outputs.items():
        tolerance = certify.tolerance_of(exact.operator, name, exact.dtype)
        shares[name], measured = certify.measure(results[name], want, tolerance, scale, infinite)
        found.append(measured)
    largest = torch.stack(list(shares.values())).amax(dim=0)
    used = max(one.used for one in found)
    return CellErrors(
        ulp=max(one.ulp for one in found),
        absolute=max(one.absolute for one in found),
        used=used,
        wrong=int((largest > 1).sum()),
        allowed=_allowed(exact),
        worst=_point(exact, results, shares, int(largest.argmax())) if used > 1 else None,
        special=tuple(_special(exact, results, shares, largest)),
    )


def _allowed(exact: ExactResults) -> str:
    """Describe the bounds of the outputs; outputs with equal bounds share a phrase."""
    bounds: dict[str, list[str]] = {}
    for name in exact.outputs:
        tolerance = certify.tolerance_of(exact.operator, name, exact.dtype)
        words = certify.in_words(tolerance, exact.operator, exact.inputs)
        bounds.setdefault(words, []).append(name)
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in bounds.items())


def _special(
    exact: ExactResults,
    results: Mapping[str, Tensor],
    shares: Mapping[str, Tensor],
    largest: Tensor,
) -> Iterator[Special]:
    limits = torch.finfo(getattr(torch, exact.dtype))
    least = limits.smallest_normal * limits.eps
    table = torch.stack(list(exact.inputs.values()))
    for number in (*SPECIAL, *NOT_FINITE, limits.max, limits.smallest_normal, least):
        met = _is(table, number).any(dim=0)
        if met.any():
            among = torch.where(met, largest, -1.0)
            holds = bool(among.max() <= 1)
            worst = None if holds else _point(exact, results, shares, int(among.argmax()))
            yield Special(value=number, holds=holds, worst=worst)


def _is(table: Tensor, number: float) -> Tensor:
    """Return the mask of the elements that are ``number``; 0 and -0 are distinct."""
    exact = torch.tensor(number, dtype=table.dtype)
    if number == 0:
        return (table == 0) & (table.signbit() == exact.signbit())
    return table.isnan() if exact.isnan() else table == exact


def _point(
    exact: ExactResults, results: Mapping[str, Tensor], shares: Mapping[str, Tensor], index: int
) -> Point:
    output = max(shares, key=lambda name: float(shares[name][index]))
    return Point(
        inputs={name: float(tensor[index]) for name, tensor in exact.inputs.items()},
        output=output,
        due=float(exact.outputs[output].high[index]),
        got=float(results[output][index]),
    )
