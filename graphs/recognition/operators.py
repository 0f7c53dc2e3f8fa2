"""Operators that recognition can evaluate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewave.graphs.analysis.node_functions import CONTRIB
from gatewave.graphs.analysis.numpy_ops import ContribOps, NumpyOps
from gatewave.graphs.ops import signature
from gatewave.models import Activation, Operator
from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS
from gatewave.models.catalogue import OPERATORS


class _OperatorNames:
    """An ``op`` that only records the names of the operators that a decomposition uses."""

    def __init__(self, precision_bits: int) -> None:
        self.precision_bits = precision_bits
        self.found: set[str] = set()

    def __getattr__(self, op_type: str) -> Callable[..., object]:
        self.found.add(op_type)
        return lambda *_operands, **_attributes: object()


def used_by(activation: Activation, operator: Operator) -> set[str]:
    """Return the ONNX operators in the decompositions of ``operator`` and of its derivatives.

    Raises:
        NotImplementedError: NumPy has no function for one of them, or a decomposition computes
            without ``op``.
    """
    found: set[str] = set()
    for precision_bits in (FLOAT32_BITS, FLOAT64_BITS):
        op = _OperatorNames(precision_bits)
        tensors = [object() for _ in activation.inputs]
        reals = {name: object() for name in operator.reals}
        try:
            signature.function(operator, "grad")(op, *tensors, **reals)
        except TypeError as error:
            raise NotImplementedError(
                f"the record of {operator.op_type}: {error}; its decompositions must compute with "
                f"the operators of op"
            ) from error
        found |= op.found
    for name in sorted(found):
        try:
            getattr(NumpyOps(), name)
        except AttributeError as error:
            raise NotImplementedError(f"the record of {operator.op_type}: {error}") from None
    return found


_METHODS = {name for name in dir(NumpyOps) if name[0].isupper()}

DERIVED = frozenset(
    name
    for activation, operator in OPERATORS.values()
    for name in used_by(activation, operator) - _METHODS
)
"""Operators in records that NumPy computes by its function of the same name."""

ELEMENTWISE: Mapping[str, frozenset[str]] = {
    "": frozenset(_METHODS | DERIVED),
    CONTRIB: frozenset(name for name in vars(ContribOps) if name[0].isupper()),
}
"""Elementwise operators by domain."""
