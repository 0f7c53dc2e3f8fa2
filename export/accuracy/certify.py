"""Certification of a graph: run it, and measure its errors against exact results."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnxruntime as ort
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from gatewave.export.accuracy import reference
from gatewave.export.accuracy.reference import Exact
from gatewave.export.errors import ToleranceError
from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.graphs.ops.ulp import unit_in_the_last_place
from gatewave.models import DTYPES, Activation, DType, Operator, Tolerance
from gatewave.models.symbols import is_undefined

NO_REALS: Mapping[str, float] = MappingProxyType({})


INSTRUCTIONS = "ai.gatewave.instructions"
"""The session's setting that chooses among a library's instruction sets."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Native kernels, which ONNX Runtime runs in place of the function bodies.

    Attributes:
        library: The shared library that has them.
        instructions: Its instruction set; the best supported one if empty.
    """

    library: Path
    instructions: str = ""

    def register(self, options: ort.SessionOptions) -> None:
        """Have the sessions that ``options`` make run these kernels."""
        if self.instructions:
            options.add_session_config_entry(INSTRUCTIONS, self.instructions)
        options.register_custom_ops_library(str(self.library))


@dataclass(frozen=True, slots=True)
class Measured:
    """The largest errors of one output over all samples.

    Attributes:
        ulp: Error in units in the last place where the absolute bound does not hold.
        absolute: Error where both results are finite, divided by the scale of the inputs, as
            `Tolerance.atol` is multiplied by it.
        used: Largest error as a share of the tolerance.
    """

    ulp: float
    absolute: float
    used: float


Compute = Callable[[bytes, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Runs a model on inputs and returns its outputs."""


def certify(
    model: bytes,
    activation: Activation,
    operator: Operator,
    graph: Graph,
    dtype: DType,
    *,
    compute: Compute | None = None,
) -> dict[str, Measured]:
    """Measure every output of ``model``, run over all the samples.

    Args:
        model: The graph, as ONNX.
        activation: The record.
        operator: Operator of the activation.
        graph: Graph of the operator.
        dtype: The type of its tensors.
        compute: Runs it; by default ONNX Runtime on CPU.

    Raises:
        ToleranceError: An output is further from the exact result than the record allows, or is
            NaN or infinite where that is not; or the record's decomposition, which shorter floats
            are measured against, is not its formula.
        NotRunnableError: ONNX Runtime refuses the model.
    """
    hold_to_formula(activation, operator)
    names = signature.inputs(activation, graph)
    inputs = dict(zip(names, reference.samples(activation, graph, dtype), strict=True))
    label = f"{activation.stem(operator)} {graph} {dtype}"
    try:
        results = (compute or run)(model, inputs)
    except Exception as error:  # ONNX Runtime's exceptions have no common class
        raise NotRunnableError(
            f"{label}: ONNX Runtime {ort.__version__} cannot run it: {error}"
        ) from error
    exact = reference.exact(activation, operator, graph, list(inputs.values()))
    wanted = dict(zip(signature.outputs(activation, graph), exact, strict=True))
    return _judged(label, operator, inputs, results, wanted)


@functools.cache
def hold_to_formula(activation: Activation, operator: Operator) -> None:
    """Check the record's decompositions, in float64 by Torch, against its formula by mpmath.

    Raises:
        ToleranceError: The differences exceed the record's tolerance in float64.
    """
    if is_undefined(activation.expression(operator)):
        return  # the decomposition is its own reference
    tensors = reference.samples(activation, "grad", "float64")
    names = signature.outputs(activation, "grad")
    found = reference.decomposition(activation, operator, "grad", tensors)
    wanted = reference.exact(activation, operator, "grad", tensors)
    _judged(
        f"the decomposition of {activation.stem(operator)}",
        operator,
        dict(zip(activation.inputs, tensors, strict=True)),
        dict(zip(names, found, strict=True)),
        dict(zip(names, wanted, strict=True)),
    )


def _judged(
    label: str,
    operator: Operator,
    inputs: Mapping[str, Tensor],
    results: Mapping[str, Tensor],
    wanted: Mapping[str, Exact],
) -> dict[str, Measured]:
    scale = scale_of(operator, inputs)
    infinite = torch.stack(list(inputs.values())).isinf().any(dim=0)
    measured = {}
    for name, want in wanted.items():
        tolerance = tolerance_of(operator, name, _dtype_of(results[name]))
        shares, measured[name] = measure(results[name], want, tolerance, scale, infinite)
        if measured[name].used > 1:
            worst = int(shares.argmax())
            point = ", ".join(f"{n}={float(t[worst])!r}" for n, t in inputs.items())
            raise ToleranceError(
                f"{label}: {name} at {point} is {float(results[name][worst])!r}, not "
                f"{float(want.high[worst])!r}: {measured[name].used:.3g} times the error that "
                f"the record allows ({tolerance})"
            )
    return measured


def tolerance_of(operator: Operator, output: str, dtype: DType) -> Tolerance:
    """The error that the record allows in the output of that name."""
    return (operator.tolerances if output == "y" else operator.derivative_tolerances)[dtype]


def _dtype_of(tensor: Tensor) -> DType:
    return next(dtype for dtype in DTYPES if getattr(torch, dtype) == tensor.dtype)


def run(
    model: bytes, inputs: Mapping[str, Tensor], kernels: Kernels | None = None
) -> dict[str, Tensor]:
    """Run ``model`` by ONNX Runtime on CPU; DLPack carries all dtypes, bfloat16 too."""
    options = ort.SessionOptions()
    if kernels is not None:
        kernels.register(options)
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = 1  # the samples are few, and idle threads spin
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = {name: ort.OrtValue.from_dlpack(tensor) for name, tensor in inputs.items()}
    results = session.run_with_ort_values(names, given)
    return {name: from_dlpack(r) for name, r in zip(names, results, strict=True)}


def measure(
    got: Tensor, want: Exact, tolerance: Tolerance, scale: Tensor, infinite: Tensor
) -> tuple[Tensor, Measured]:
    """Measure the error of ``got``: a share of the tolerance per element, and the largest.

    Where an input is ``infinite`` and the exact result is not finite, NaN is right too: the product
    of infinity and a gate that underflows.
    """
    limits = torch.finfo(got.dtype)
    found, high = got.double(), want.high
    error = ((found - high) - want.low).abs()
    ulp = _units(high, limits)
    allowed = allowance(high, tolerance, scale, limits)
    share = torch.where(error == 0, 0.0, error / allowed)
    # Past the greatest number, infinity and that number are each a correct answer away from it.
    beyond = high.abs() > limits.max - ulp
    both_past = beyond & (found.abs() >= limits.max) & (found.sign() == high.sign())
    same = (found == high) & ~high.isfinite()
    same |= (found.isnan() & high.isnan()) | both_past
    same |= infinite & found.isnan() & ~high.isfinite()
    share = torch.where(same, 0.0, torch.where(share.isnan(), torch.inf, share))
    regular = high.isfinite() & found.isfinite() & ~same
    telling = regular & (error > tolerance.atol * scale)
    return share, Measured(
        ulp=float((error / ulp)[telling].max()) if telling.any() else 0.0,
        absolute=float((error / scale)[regular].max()) if regular.any() else 0.0,
        used=float(share.max()) if len(share) else 0.0,
    )


def allowance(want: Tensor, tolerance: Tolerance, scale: Tensor, limits: torch.finfo) -> Tensor:
    """The largest absolute error that ``tolerance`` allows at the exact results ``want``."""
    return torch.maximum(tolerance.ulp * _units(want, limits), tolerance.atol * scale)


def _units(exact: Tensor, limits: torch.finfo) -> Tensor:
    """Return `unit_in_the_last_place` of a tensor of float64."""
    return torch.from_numpy(unit_in_the_last_place(exact.numpy(), limits.dtype))


def in_words(tolerance: Tolerance, operator: Operator, names: Iterable[str]) -> str:
    """Describe a tolerance; ``names`` are the inputs and the real parameters that may be set."""
    if not tolerance.atol:
        return f"{tolerance.ulp:g} ULP"
    scale = "".join(f" · max(1, |{name}|)" for name in names if _grows_with(operator, name))
    return f"{tolerance.ulp:g} ULP or {tolerance.atol:g}{scale}"


def _grows_with(operator: Operator, name: str) -> bool:
    return name == "grad_y" or name in operator.scale or name in operator.reals


def scale_of(
    operator: Operator, inputs: Mapping[str, Tensor], reals: Mapping[str, float] = NO_REALS
) -> Tensor:
    """Return the scale of absolute errors per element: see `Tolerance.atol`."""
    scale = torch.ones(len(next(iter(inputs.values()))), dtype=torch.float64)
    for name, tensor in inputs.items():
        if _grows_with(operator, name):
            scale = scale * tensor.double().abs().nan_to_num(1.0, 1.0).clamp(1.0)
    return scale * math.prod(max(1.0, abs(real)) for real in reals.values())
