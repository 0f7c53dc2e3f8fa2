"""The ``op`` that records: Torch's exporter notes down each operator that a translation calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import numpy_helper
from onnxscript import opset18

from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype
from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS, DType

Translation = Callable[..., Any]
Translations = dict[Callable[..., Any], Translation]
"""Type of the ``custom_translation_table`` of `torch.onnx.export`."""


class RecordedOps:
    """The operators of a decomposition, recorded while a translation runs.

    Numbers become constants of ``dtype``; Torch itself would make them float32.
    """

    def __init__(self, dtype: DType) -> None:
        self.precision_bits = FLOAT64_BITS if dtype == "float64" else FLOAT32_BITS
        self._numpy = np.dtype(dtype)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        # At opset 18 the exporter draws, whatever it is asked for; it converts afterwards.
        operator = getattr(opset18, op_type)
        return lambda *operands: operator(*map(self._value, operands))

    def _value(self, operand: Any) -> Any:
        if isinstance(operand, ir.Value):
            return operand
        return opset18.Constant(value=numpy_helper.from_array(np.array(operand, self._numpy)))


def computed(
    form: Translation, dtype: DType, tensors: Sequence[Any], *rest: Any, **named: Any
) -> Any:
    """Record ``form`` in the compute dtype of ``dtype``, and a cast of its result to ``dtype``."""
    wide_dtype = compute_dtype(dtype)
    wide = tensors if wide_dtype == dtype else [cast(tensor, wide_dtype) for tensor in tensors]
    result = form(RecordedOps(wide_dtype), *wide, *rest, **named)
    return result if wide_dtype == dtype else cast(result, dtype)


def cast(tensor: Any, dtype: DType) -> Any:
    return opset18.Cast(tensor, to=ONNX_TYPES[dtype].value)
