"""Proof that a model computes its activation: run it, and measure it against exact results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnxruntime as ort
import torch
from torch import Tensor

from export import reference, signature
from export.reference import Exact
from export.signature import Graph
from models import Activation, DType, Operator, Tolerance


class ToleranceExceeded(Exception):
    """A model misses what its record promises; the message says where, and by how much."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The largest errors of one output over all samples.

    Attributes:
        ulp: In units in the last place, where the absolute bound does not already hold.
        absolute: Over all samples with a finite exact result within the dtype's range, divided by
            the scale of the inputs, as `Tolerance.atol` is.
        used: The largest error as a share of what is allowed.
    """

    ulp: float
    absolute: float
    used: float


def certify(
    model: bytes, activation: Activation, operator: Operator, graph: Graph, dtype: DType
) -> dict[str, Measured]:
    """Measure every output of ``model``, run by ONNX Runtime on CPU over all the samples.

    Raises:
        ToleranceExceeded: An output is further from the exact result than the record allows, or is
            NaN or infinite where that is not.
    """
    inputs = reference.samples(activation, graph, dtype)
    names = signature.inputs(activation, graph)
    results = run(model, dict(zip(names, inputs, strict=True)))
    wanted = reference.exact(activation, operator, graph, inputs)
    scale = _scale(operator, dict(zip(names, inputs, strict=True)))
    infinite = torch.stack(inputs).isinf().any(dim=0)
    measured = {}
    for name, want in zip(signature.outputs(activation, graph), wanted, strict=True):
        bounds = operator.tolerances if name == "y" else operator.derivative_tolerances
        excess, found = measure(results[name], want, bounds[dtype], scale, infinite)
        if found.used > 1:
            worst = int(excess.argmax())
            point = ", ".join(
                f"{n}={float(t[worst])!r}" for n, t in zip(names, inputs, strict=True)
            )
            msg = (
                f"{activation.stem(operator)} {graph} {dtype}: {name} at {point} is "
                f"{float(results[name][worst])!r}, not {float(want.high[worst])!r}: "
                f"{found.used:.3g} times the error that the record allows ({bounds[dtype]})"
            )
            raise ToleranceExceeded(msg)
        measured[name] = found
    return measured


def run(model: bytes, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Run ``model`` by ONNX Runtime on CPU; DLPack carries all dtypes, bfloat16 too."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {name: ort.OrtValue.from_dlpack(tensor) for name, tensor in inputs.items()}
    results = session.run_with_ort_values(names, given)
    return {name: torch.from_dlpack(r) for name, r in zip(names, results, strict=True)}


def measure(
    got: Tensor, want: Exact, tolerance: Tolerance, scale: Tensor, infinite: Tensor
) -> tuple[Tensor, Measured]:
    """How far ``got`` is from ``want``: per element as a share of the tolerance, and in all.

    Where an input is ``infinite`` and the exact result is not finite, NaN is right too: the product
    of infinity and a gate that underflows.
    """
    limits = torch.finfo(got.dtype)
    found, high = got.double(), want.high
    error = ((found - high) - want.low).abs()
    ulp = unit_in_the_last_place(high, limits)
    allowed = torch.maximum(tolerance.ulp * ulp, tolerance.atol * scale)
    share = torch.where(error == 0, 0.0, error / allowed)
    # Past the greatest number, infinity and that number are each a correct answer away from it.
    beyond = high.abs() > limits.max - ulp
    both_past = beyond & (found.abs() >= limits.max) & (found.sign() == high.sign())
    same = (found == high) | (found.isnan() & high.isnan()) | both_past
    same |= infinite & found.isnan() & ~high.isfinite()
    share = torch.where(same, 0.0, torch.where(share.isnan(), torch.inf, share))
    regular = high.isfinite() & ~same
    telling = regular & (error > tolerance.atol * scale)
    return share, Measured(
        ulp=float((error / ulp)[telling].max()) if telling.any() else 0.0,
        absolute=float((error / scale)[regular].max()) if regular.any() else 0.0,
        used=float(share.max()) if len(share) else 0.0,
    )


def unit_in_the_last_place(exact: Tensor, limits: torch.finfo) -> Tensor:
    """The distance between neighbouring floats of a dtype around ``exact``, in float64."""
    least = limits.smallest_normal * limits.eps
    _, exponent = torch.frexp(exact.abs().clamp(limits.smallest_normal, limits.max))
    return torch.ldexp(torch.full_like(exact, limits.eps), exponent - 1).clamp(least)


def _scale(operator: Operator, inputs: Mapping[str, Tensor]) -> Tensor:
    names: Sequence[str] = [n for n in inputs if n in operator.scale or n == "grad_y"]
    scale = torch.ones(len(next(iter(inputs.values()))), dtype=torch.float64)
    for name in names:
        scale = scale * inputs[name].double().abs().nan_to_num(1.0, 1.0).clamp(1.0)
    return scale
