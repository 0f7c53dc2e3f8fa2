"""Lowerings: operators written in terms of other operators.

`LOWERINGS` is the table. A lowering is used only where the target does not run the operator itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.ops import formulas, signature
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_OPERATORS
from gatewave.models import elementary

CONTRIB = "com.microsoft"
OperatorName = tuple[str, str]

Lowering = Callable[[Any, ir.Node, Sequence[Any]], tuple[Any, ...]]
"""Takes an ``op``, the node and its inputs; returns the node's outputs."""

QUICK_GELU_ALPHA = float(np.float32(1.702))
"""The default of the attribute, which is a float32."""

LEAKY_RELU_ALPHA = float(np.float32(0.01))

CLIP_TAKES_INPUTS = 11
"""First opset in which the limits of `Clip` are inputs; omitted ones are no limits."""

FLOAT32_MAX = float(np.finfo(np.float32).max)


def identifier_of(node: ir.Node) -> OperatorName:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def attributes_of(node: ir.Node) -> dict[str, float | str]:
    """The attributes that are numbers or words."""
    plain = (ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING)
    return {a.name: a.value for a in node.attributes.values() if not a.is_ref() and a.type in plain}


def tensors_of(node: ir.Node) -> int:
    """Return the number of tensor inputs in the computed type; the others are real parameters."""
    if node.domain != DOMAIN or node.op_type not in DOMAIN_OPERATORS:
        return len(node.inputs)
    activation, _, graph = DOMAIN_OPERATORS[node.op_type]
    return len(signature.inputs(activation, graph))


def _number(node: ir.Node, name: str, default: float) -> float:
    return float(attributes_of(node).get(name, default))


def _swish(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.silu(op, inputs[0], _number(node, "alpha", 1.0)),)


def _quick_gelu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.silu(op, inputs[0], _number(node, "alpha", QUICK_GELU_ALPHA)),)


def _swiglu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.swiglu(op, inputs[0], inputs[1], _number(node, "alpha", 1.0)),)


def _swiglu_clamped(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    names = {"alpha": "activation_alpha", "beta": "activation_beta", "limit": "limit"}
    defaults = {"alpha": 1.0, "beta": 0.0, "limit": 0.0}
    given = {key: _number(node, name, defaults[key]) for key, name in names.items()}
    return (formulas.swiglu_clamped(op, inputs[0], inputs[1], **given),)


def _gelu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    # ONNX Runtime's own Gelu has no such attribute: its default is the exact form, too.
    tanh = attributes_of(node).get("approximate", "none") == "tanh"
    return ((formulas.gelu_tanh if tanh else formulas.gelu)(op, inputs[0]),)


def _bias_gelu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.gelu(op, op.Add(inputs[0], inputs[1])),)


def _fast_gelu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    # FastGelu is the tanh form, with an optional bias.
    x, bias = (*inputs, None)[:2]
    return (formulas.gelu_tanh(op, x if bias is None else op.Add(x, bias)),)


def _hardsigmoid(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    alpha, beta = _number(node, "alpha", float(np.float32(0.2))), _number(node, "beta", 0.5)
    return (formulas.hardsigmoid(op, inputs[0], alpha, beta),)


def _elu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.elu(op, inputs[0], _number(node, "alpha", 1.0)),)


def _selu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    alpha = _number(node, "alpha", formulas.SELU_ALPHA)
    gamma = _number(node, "gamma", formulas.SELU_GAMMA)
    return (formulas.selu(op, inputs[0], alpha, gamma),)


def _celu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.celu(op, inputs[0], _number(node, "alpha", 1.0)),)


def _leaky_relu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.leaky_relu(op, inputs[0], _number(node, "alpha", LEAKY_RELU_ALPHA)),)


def _prelu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    x, slope = inputs
    # Unsigned numbers are never below 0, and a formula for them has no negative constants.
    return (x if op.is_unsigned else formulas.leaky_relu(op, x, slope),)


def _relu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.Max(inputs[0], 0.0),)


def _thresholded_relu(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.thresholded_relu(op, inputs[0], _number(node, "alpha", 1.0)),)


def _shrink(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    bias, lambd = _number(node, "bias", 0.0), _number(node, "lambd", 0.5)
    return (formulas.shrink(op, inputs[0], bias, lambd),)


def _mean(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.Div(op.Sum(*inputs), float(len(inputs))),)


def _of_one(formula: Callable[[Any, Any], Any]) -> Lowering:
    """Return the lowering of an operator with one input and no attributes."""

    def lower(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
        return (formula(op, inputs[0]),)

    return lower


def _clip(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Lower `Clip`: limits are inputs, or, before opset 11, attributes with defaults."""
    x, *given = inputs
    low: Any
    high: Any
    # A node that the opset conversion left has the version that it was written in.
    if (node.version or op.opset) < CLIP_TAKES_INPUTS:
        low, high = _number(node, "min", -FLOAT32_MAX), _number(node, "max", FLOAT32_MAX)
    else:
        low, high = (*given, None, None)[:2]
    raised = x if low is None else op.Max(x, low)
    # Max before Min, as the standard defines it: if low > high, the result is high.
    return (raised if high is None else op.Min(raised, high),)


def _greater(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.Less(inputs[1], inputs[0]),)


def _greater_or_equal(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.LessOrEqual(inputs[1], inputs[0]),)


def _ours(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Lower our operator by its record; 16-bit tensors and real parameters are already widened."""
    activation, operator, graph = DOMAIN_OPERATORS[node.op_type]
    count = tensors_of(node)
    reals: dict[str, Any] = {**activation.defaults(operator)}
    reals |= {name: v for name, v in attributes_of(node).items() if name in reals}
    reals |= dict(zip(operator.reals, inputs[count:], strict=False))
    return signature.function(operator, graph)(op, *inputs[:count], **reals)


LOWERINGS: Mapping[OperatorName, Lowering] = MappingProxyType(
    {
        ("", "Sigmoid"): _of_one(formulas.sigmoid),
        ("", "Swish"): _swish,
        ("", "SwiGLU"): _swiglu,
        ("", "Gelu"): _gelu,
        ("", "Mish"): _of_one(formulas.mish),
        ("", "HardSwish"): _of_one(formulas.hardswish),
        ("", "HardSigmoid"): _hardsigmoid,
        ("", "Softplus"): _of_one(elementary.softplus),
        ("", "Softsign"): _of_one(formulas.softsign),
        ("", "Elu"): _elu,
        ("", "Selu"): _selu,
        ("", "Celu"): _celu,
        ("", "Relu"): _relu,
        ("", "LeakyRelu"): _leaky_relu,
        ("", "PRelu"): _prelu,
        ("", "ThresholdedRelu"): _thresholded_relu,
        ("", "Shrink"): _shrink,
        ("", "Clip"): _clip,
        ("", "Mean"): _mean,
        ("", "Erf"): _of_one(elementary.erf),
        ("", "Erfc"): _of_one(formulas.erfc),
        ("", "Cos"): _of_one(formulas.cosine),
        ("", "Tan"): _of_one(elementary.tan),
        ("", "Asin"): _of_one(elementary.asin),
        ("", "Acos"): _of_one(elementary.acos),
        ("", "Atan"): _of_one(elementary.atan),
        ("", "Sinh"): _of_one(elementary.sinh),
        ("", "Cosh"): _of_one(elementary.cosh),
        ("", "Asinh"): _of_one(elementary.asinh),
        ("", "Acosh"): _of_one(elementary.acosh),
        ("", "Atanh"): _of_one(elementary.atanh),
        ("", "Floor"): _of_one(formulas.floor),
        ("", "Round"): _of_one(formulas.nearest),
        ("", "Sign"): _of_one(formulas.sign),
        ("", "Greater"): _greater,
        ("", "GreaterOrEqual"): _greater_or_equal,
        (CONTRIB, "QuickGelu"): _quick_gelu,
        (CONTRIB, "Gelu"): _gelu,
        (CONTRIB, "BiasGelu"): _bias_gelu,
        (CONTRIB, "FastGelu"): _fast_gelu,
        (CONTRIB, "SwiGLU"): _swiglu_clamped,
        **{(DOMAIN, op_type): _ours for op_type in DOMAIN_OPERATORS},
    }
)

OF_ANY_TYPE = frozenset(
    ("", name) for name in ("Clip", "Greater", "GreaterOrEqual", "PRelu", "Relu")
)
"""Operators with a lowering that also holds for integers."""


def lowering_of(node: ir.Node) -> Lowering | None:
    """Return the lowering of ``node`` to other operators; None without one."""
    if identifier_of(node) == (CONTRIB, "SwiGLU") and (
        len(node.inputs) < 2 or attributes_of(node).get("round_activation")  # noqa: PLR2004
    ):
        return None  # packed in one input, or rounded in between
    return LOWERINGS.get(identifier_of(node))
