"""The ONNX operators that work element by element, computed by NumPy in float64.

They compute the nodes of a graph and the formulas of the catalogue alike: an activation is
recognised by what it computes, however it is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.thresholds import (
    EQUAL_OPERANDS,
    NUDGE,
    NUDGE_TRIALS,
    OPERATOR_ROUNDOFF,
)
from gatewave.graphs.ops.formulas import SELU_ALPHA, SELU_GAMMA
from gatewave.models.activation import FLOAT64_BITS

FLOATS = (
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
)

_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])


def _checked(function: np.ufunc) -> Callable[..., Any]:
    """Return ``function`` with a check of the number of its operands.

    NumPy takes one operand too many as the array for the result.
    """

    def compute(*operands: Any) -> Any:
        if len(operands) != function.nin:
            raise TypeError(f"it takes {function.nin} operands, not {len(operands)}")
        return function(*operands)

    return compute


def _exactly(function: np.ufunc) -> Any:
    return staticmethod(_checked(function))


class NotElementwiseError(Exception):
    """An operator, or a use of one, that does not work element by element on floats."""


@dataclass(frozen=True, slots=True, eq=False)
class BranchPoint:
    """Boundary between two branches: the zeros of ``difference``, one number per sample point."""

    difference: Any
    equality: bool


class NumpyOps:
    """An ``op`` that computes with NumPy, and records its branch points.

    Attributes of a node are keyword arguments. An operator raises TypeError for an attribute that
    it does not know.

    An operator without a method here is NumPy's function of the same name in small letters, such as
    ``Atan`` and `numpy.atan`: the decomposition of a new record may use it at once.
    """

    precision_bits = FLOAT64_BITS

    def __init__(self) -> None:
        self.branch_points: list[BranchPoint] = []

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        function = getattr(np, op_type.lower(), None) if op_type[:1].isupper() else None
        if isinstance(function, np.ufunc):
            return _checked(function)
        raise AttributeError(
            f"NumPy has no function for the operator {op_type}: add a method {op_type} to NumpyOps "
            "in graphs/analysis/numpy_ops.py"
        )

    Cos = _exactly(np.cos)
    Erf = staticmethod(_erf)
    Erfc = staticmethod(_erfc)  # no ONNX has it, but tf2onnx writes it
    Exp = _exactly(np.exp)
    Floor = _exactly(np.floor)
    Ceil = _exactly(np.ceil)
    Log = _exactly(np.log)
    Neg = _exactly(np.negative)
    Reciprocal = _exactly(np.reciprocal)
    Round = _exactly(np.rint)
    Sin = _exactly(np.sin)
    Sqrt = _exactly(np.sqrt)
    Tanh = _exactly(np.tanh)
    Add = _exactly(np.add)
    Sub = _exactly(np.subtract)
    Mul = _exactly(np.multiply)
    Div = _exactly(np.true_divide)
    And = _exactly(np.logical_and)
    Or = _exactly(np.logical_or)
    Xor = _exactly(np.logical_xor)
    Not = _exactly(np.logical_not)

    def Where(self, condition: Any, x: Any, y: Any) -> Any:
        return np.where(condition, x, y)

    def _part(self, left: Any, right: Any, *, equality: bool = False) -> None:
        # dtype: conditions may be compared, too, and NumPy does not subtract booleans.
        difference = np.subtract(left, right, dtype=float)
        self.branch_points.append(BranchPoint(difference, equality))

    def Identity(self, x: Any) -> Any:
        return x

    def Dropout(self, x: Any, ratio: Any = None, training: Any = None, **_: Any) -> Any:
        """Return the input, as in inference."""
        del ratio
        if training is not None and np.any(training):
            raise NotElementwiseError("Dropout in training")
        return x

    def Cast(self, x: Any, *, to: int, saturate: int = 1, round_mode: str = "up") -> Any:
        del saturate, round_mode
        if to == ir.DataType.BOOL:
            return x if np.asarray(x).dtype == bool else ~self.Equal(x, 0.0)
        if to not in FLOATS:
            raise NotElementwiseError(f"Cast to {ir.DataType(to).name}")
        return np.asarray(x, float)

    def Pow(self, base: Any, exponent: Any) -> Any:
        return np.power(np.asarray(base, float), exponent)

    def Sum(self, *terms: Any) -> Any:
        return sum(terms)

    def Less(self, left: Any, right: Any) -> Any:
        self._part(left, right)
        return np.less(left, right)

    def LessOrEqual(self, left: Any, right: Any) -> Any:
        self._part(left, right)
        return np.less_equal(left, right)

    def Greater(self, left: Any, right: Any) -> Any:
        self._part(left, right)
        return np.greater(left, right)

    def GreaterOrEqual(self, left: Any, right: Any) -> Any:
        self._part(left, right)
        return np.greater_equal(left, right)

    def Equal(self, left: Any, right: Any) -> Any:
        # An operand that is computed may miss the constant by a rounding error.
        self._part(left, right, equality=True)
        return np.isclose(left, right, rtol=EQUAL_OPERANDS, atol=0)

    def Abs(self, x: Any) -> Any:
        self._part(x, 0.0)
        return np.abs(x)

    def Sign(self, x: Any) -> Any:
        self._part(x, 0.0)
        return np.sign(x)

    def Max(self, *tensors: Any) -> Any:
        return self._extreme(np.maximum, tensors)

    def Min(self, *tensors: Any) -> Any:
        return self._extreme(np.minimum, tensors)

    def _extreme(self, pick: np.ufunc, tensors: Sequence[Any]) -> Any:
        found, *others = tensors
        for tensor in others:
            self._part(found, tensor)
            found = pick(found, tensor)
        return found

    def Clip(self, x: Any, low: Any = None, high: Any = None, **limits: float) -> Any:
        """Clamp to limits: inputs, or, before opset 11, the attributes ``min`` and ``max``."""
        low = limits.pop("min", None) if low is None else low
        high = limits.pop("max", None) if high is None else high
        if limits:
            raise TypeError(f"Clip has no {sorted(limits)}")
        raised = x if low is None else self.Max(x, low)
        return raised if high is None else self.Min(raised, high)

    def Relu(self, x: Any) -> Any:
        return self.Max(x, 0.0)

    def LeakyRelu(self, x: Any, *, alpha: float = 0.01) -> Any:
        return np.where(self.Less(x, 0.0), alpha * x, x)

    def PRelu(self, x: Any, slope: Any) -> Any:
        return np.where(self.Less(x, 0.0), slope * x, x)

    def ThresholdedRelu(self, x: Any, *, alpha: float = 1.0) -> Any:
        return np.where(self.Greater(x, alpha), x, 0.0)

    # expm1 keeps all digits near 0, where eˣ - 1 cancels.
    def Elu(self, x: Any, *, alpha: float = 1.0) -> Any:
        return np.where(self.Less(x, 0.0), alpha * np.expm1(x), x)

    def Celu(self, x: Any, *, alpha: float = 1.0) -> Any:
        return np.where(self.Less(x, 0.0), alpha * np.expm1(x / alpha), x)

    def Selu(self, x: Any, *, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Any:
        return gamma * self.Elu(x, alpha=alpha)

    def Shrink(self, x: Any, *, bias: float = 0.0, lambd: float = 0.5) -> Any:
        shrunk = np.where(self.Greater(x, lambd), x - bias, 0.0)
        return np.where(self.Less(x, -lambd), x + bias, shrunk)

    # log(1 + eˣ) loses small results, and overflows from 710 on; logaddexp does neither.
    def Softplus(self, x: Any) -> Any:
        return np.logaddexp(0.0, x)

    def Softsign(self, x: Any) -> Any:
        return x / (1 + np.abs(x))

    def Sigmoid(self, x: Any) -> Any:
        return np.exp(-np.logaddexp(0.0, np.negative(x)))

    def HardSigmoid(self, x: Any, *, alpha: float = 0.2, beta: float = 0.5) -> Any:
        return self.Clip(alpha * x + beta, 0.0, 1.0)

    def HardSwish(self, x: Any) -> Any:
        return x * self.HardSigmoid(x, alpha=1 / 6)

    def Mish(self, x: Any) -> Any:
        return x * np.tanh(self.Softplus(x))

    def Swish(self, x: Any, *, alpha: float = 1.0) -> Any:
        return x * self.Sigmoid(alpha * x)

    def Gelu(self, x: Any, *, approximate: str = "none") -> Any:
        """Both forms without cancellation: 1 + tanh(u) is 2σ(2u), and 1 + erf(u) is erfc(-u)."""
        if approximate not in {"none", "tanh"}:
            raise ValueError(f"approximate is {approximate!r}, not 'none' or 'tanh'")
        if approximate == "tanh":
            return x * self.Sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x))
        return 0.5 * x * _erfc(-x * math.sqrt(0.5))


class ContribOps(NumpyOps):
    """ONNX Runtime's own elementwise operators, of the domain ``com.microsoft``."""

    def QuickGelu(self, x: Any, *, alpha: float = float(np.float32(1.702))) -> Any:
        return self.Swish(x, alpha=alpha)

    def FastGelu(self, x: Any, bias: Any = 0.0) -> Any:
        return NumpyOps.Gelu(self, x + bias, approximate="tanh")

    def BiasGelu(self, x: Any, bias: Any) -> Any:
        return NumpyOps.Gelu(self, x + bias)

    def Gelu(self, x: Any) -> Any:  # type: ignore[override]  # theirs has no attribute
        return NumpyOps.Gelu(self, x)


class RoughOps:
    """An ``op`` whose results are off by chance, each by about `NUDGE`, relatively.

    Operators that do not round are left as they are.
    """

    def __init__(self, seed: int) -> None:
        self._op = NumpyOps()
        self._source = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        exact = getattr(self._op, name)
        if not name[0].isupper() or name in _ROUNDING_NOTHING:
            return exact

        def compute(*operands: Any, **attributes: Any) -> Any:
            result = np.asarray(exact(*operands, **attributes))
            if result.dtype.kind != "f":
                return result
            return result * (1 + NUDGE * self._source.standard_normal(result.shape))

        return compute


_ROUNDING_NOTHING = {
    "Identity", "Dropout", "Cast", "Neg", "Abs", "Sign", "Max", "Min", "Clip", "Relu", "Where",
    "Floor", "Ceil", "Round",
}  # fmt: skip


def noise(evaluate: Callable[[Any], Any]) -> Any:
    """Return the error of float64 in the result of ``evaluate``: larger where terms cancel.

    It is evaluated with greater errors, and their effect is scaled down.
    """
    # One evaluation with larger errors may cancel them by chance; several seldom do.
    with np.errstate(all="ignore"):
        result = evaluate(NumpyOps())
        moved = np.max(
            [np.abs(evaluate(RoughOps(n)) - result) for n in range(NUDGE_TRIALS)], axis=0
        )
    return np.where(np.isfinite(moved), moved, 0.0) * (OPERATOR_ROUNDOFF * 2.0**-53 / NUDGE)
