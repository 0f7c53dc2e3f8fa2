"""Torch's own functions as our activations: tables for `torch.onnx.export`, and for `to_onnx`.

Torch's exporter takes a function's translation from a table, and records the operators that the
translation calls. Ours call what the records' decompositions do. It also writes every function of a
model out before it returns: in Torch 2.13 it does so in all opsets, optimizing or not. So a table
alone can make the numbers right, but no nodes of ours; `to_onnx` adds their functions afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx import numpy_helper
from onnx.defs import OpSchema
from onnxscript import opset18
from onnxscript.values import Op, Opset

from export.graph_ops import ONNX_TYPES, compute_dtype, dtype_of
from export.signature import DOMAIN, DOMAIN_VERSION
from models import Activation, DType, Operator
from models.glu import PLAIN_GLU
from models.sinc import SINC
from models.swish import SWISH

Translations = dict[Callable[..., Any], Callable[..., Any]]
"""What `torch.onnx.export` takes for ``custom_translation_table``."""

Draw = Callable[..., ir.Value]
"""Draws an activation: called with it, the dtype and the tensors."""


def torch_translations() -> Translations:
    """Torch's sinc, SiLU and GLU in the records' formulas, of standard operators.

    For ``torch.onnx.export(..., dynamo=True, custom_translation_table=torch_translations())``.
    `torch.sinc` is then within its bounds in every dtype: 0 at whole numbers, and at ±∞, where
    Torch gives NaN. All three compute 16-bit floats in float32 and round once, so that runtimes
    without 16-bit kernels run them.
    """
    return _table(_formula)


def as_nodes() -> Translations:
    """The same functions as nodes of our domain, without the functions that these stand for."""
    return _table(_node)


def _table(draw: Draw) -> Translations:
    def sinc(x: Any) -> Any:
        return draw(SINC, dtype_of(x), x)

    def silu(x: Any) -> Any:
        return draw(SWISH, dtype_of(x), x)

    def glu(x: Any, dim: int = -1) -> Any:
        return draw(PLAIN_GLU, dtype_of(x), *opset18.Split(x, axis=dim, num_outputs=2))

    aten = torch.ops.aten
    return {
        aten.sinc.default: sinc,
        aten.special_sinc.default: sinc,
        aten.silu.default: silu,
        aten.glu.default: glu,
    }


def _formula(activation: Activation, dtype: DType, *tensors: Any) -> Any:
    (operator,) = activation.operators
    computed = compute_dtype(dtype)
    wide = tensors if computed == dtype else [_cast(tensor, computed) for tensor in tensors]
    result = operator.value(RecordedOps(computed), *wide, **activation.defaults(operator))
    return result if computed == dtype else _cast(result, dtype)


def _cast(tensor: Any, dtype: DType) -> Any:
    return opset18.Cast(tensor, to=ONNX_TYPES[dtype].value)


class RecordedOps:
    """The ``op`` that records: Torch's exporter notes down each operator that it calls.

    Numbers become constants of ``dtype``; Torch itself would make them float32.
    """

    def __init__(self, dtype: DType) -> None:
        self.digits = {"float32": 24, "float64": 53}[dtype]
        self._numpy = np.dtype(dtype)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        # At opset 18 the exporter draws, whatever it is asked for; it converts afterwards.
        operator = getattr(opset18, op_type)
        return lambda *operands: operator(*map(self._value, operands))

    def _value(self, operand: Any) -> Any:
        if isinstance(operand, ir.Value):
            return operand
        return opset18.Constant(value=numpy_helper.from_array(np.array(operand, self._numpy)))


def _node(activation: Activation, _: DType, *tensors: Any) -> Any:
    (operator,) = activation.operators
    domain = Opset(DOMAIN, DOMAIN_VERSION)
    call = Op(domain, operator.op_type, _schema(activation, operator))
    return call(*tensors, **activation.defaults(operator))


def _schema(activation: Activation, operator: Operator) -> OpSchema:
    """What the exporter must know of an operator to record it; it is registered nowhere."""
    types = [f"tensor({name})" for name in ("float16", "bfloat16", "float", "double")]
    return OpSchema(
        operator.op_type,
        DOMAIN,
        DOMAIN_VERSION,
        inputs=[OpSchema.FormalParameter(name, "T") for name in activation.inputs],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[("T", types, "")],
        attributes=[OpSchema.Attribute(name, OpSchema.AttrType.FLOAT) for name in operator.reals],
    )
