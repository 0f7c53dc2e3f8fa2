"""Correct translations of Torch's functions: tables for `torch.onnx.export` and `to_onnx`.

Torch's exporter takes a function's translation from a table, and records the operators that the
translation calls. It also writes every function of a model out before it returns: in Torch 2.13 it
does so in all opsets, optimizing or not. A table alone can make the numbers right, but no nodes
of ours; `to_onnx` adds their functions afterwards.

Torch's own translations are wrong in these ways (Torch 2.13, onnxscript 0.7):

- Numbers become float32 tensors, which float64 graphs cast: the 0.1 of ``0.1 * x`` errs by 1.5e-9.
- Parameters become attributes, which are float32 in ONNX: those of a float64 ELU, for example.
- Formulas overflow or cancel: logaddexp is inf from 88.7 on, log_sigmoid -inf below -18.
- 16-bit floats are rounded after each operator of a formula, and at most opsets bfloat16 is no
  type that Elu, Celu, Selu, Mish, Softplus, HardSigmoid and HardSwish take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnx.defs import OpSchema
from onnxscript import opset18
from onnxscript.values import Op, Opset

from gatewave.export.torch import constants, elementwise
from gatewave.export.torch.recorded_ops import Translations, computed
from gatewave.graphs.ops.graph_ops import dtype_of
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_VERSION
from gatewave.models import Activation, DType, Operator
from gatewave.models.glu import PLAIN_GLU
from gatewave.models.sinc import SINC
from gatewave.models.swish import SWISH

DrawNode = Callable[..., ir.Value]
"""Draws an activation: called with it, the dtype and the tensors."""


def torch_translations() -> Translations:
    """Torch's elementwise functions in formulas of standard operators that are within bounds.

    For ``torch.onnx.export(..., dynamo=True, custom_translation_table=torch_translations())``.
    float64 graphs have float64 constants only, and no Erf, which ONNX Runtime lacks there; 16-bit
    floats are computed in float32 and rounded once, so that runtimes without 16-bit kernels run
    them. In float32, correct nodes of Torch are kept, since runtimes fuse them. `torch.sinc` is
    0 at ±∞, where Torch gives NaN.
    """
    return {**constants.table(), **elementwise.table(), **_activations(_formula)}


def as_nodes() -> Translations:
    """The same table, but Torch's sinc, SiLU and GLU become nodes of our domain.

    The functions that these nodes stand for are left to the caller.
    """
    return {**torch_translations(), **_activations(_node)}


def _activations(draw: DrawNode) -> Translations:
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
    return computed(operator.value, dtype, tensors, **activation.defaults(operator))


def _node(activation: Activation, _: DType, *tensors: Any) -> Any:
    (operator,) = activation.operators
    domain = Opset(DOMAIN, DOMAIN_VERSION)
    call = Op(domain, operator.op_type, _schema(activation, operator))
    return call(*tensors, **activation.defaults(operator))


def _schema(activation: Activation, operator: Operator) -> OpSchema:
    """Return the schema that the exporter needs to record an operator; it is not registered."""
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
