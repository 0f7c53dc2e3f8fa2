"""The operators that can be written in others, and how each node of them is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from export import formulas, signature
from export.signature import DOMAIN, GRAPHS, Graph
from models import ACTIVATIONS, Activation, Operator

CONTRIB = "com.microsoft"
Identifier = tuple[str, str]

Draw = Callable[[Any, ir.Node, Sequence[Any]], tuple[Any, ...]]
"""Of an ``op``, the node, and its inputs; gives what the node gives."""

QUICK_GELU_ALPHA = float(np.float32(1.702))
"""The default of the attribute, which is a float32."""

CLIP_TAKES_INPUTS = 11
"""The opset from which on `Clip` has its limits as inputs, and none where they are omitted."""

FLOAT32_MAX = float(np.finfo(np.float32).max)


def identifier_of(node: ir.Node) -> Identifier:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def attributes_of(node: ir.Node) -> dict[str, float | str]:
    """The attributes that are numbers or words."""
    plain = (ir.AttributeType.FLOAT, ir.AttributeType.INT, ir.AttributeType.STRING)
    return {a.name: a.value for a in node.attributes.values() if not a.is_ref() and a.type in plain}


def tensors_of(node: ir.Node) -> int:
    """How many of the inputs are of the element type computed with; others are real parameters."""
    if node.domain != DOMAIN or node.op_type not in OURS:
        return len(node.inputs)
    activation, _, graph = OURS[node.op_type]
    return len(signature.inputs(activation, graph))


def _number(node: ir.Node, name: str, default: float) -> float:
    return float(attributes_of(node).get(name, default))


def _sigmoid(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.sigmoid(op, inputs[0]),)


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
    tanh = attributes_of(node).get("approximate", "none") == "tanh"
    return ((formulas.gelu_tanh if tanh else formulas.gelu)(op, inputs[0]),)


def _bias_gelu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.gelu(op, op.Add(inputs[0], inputs[1])),)


def _fast_gelu(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    x, bias = (*inputs, None)[:2]
    return (formulas.gelu_tanh(op, x if bias is None else op.Add(x, bias)),)


def _mish(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.mish(op, inputs[0]),)


def _hardswish(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.hardswish(op, inputs[0]),)


def _hardsigmoid(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    alpha, beta = _number(node, "alpha", float(np.float32(0.2))), _number(node, "beta", 0.5)
    return (formulas.hardsigmoid(op, inputs[0], alpha, beta),)


def _cosine(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.cosine(op, inputs[0]),)


def _erfc(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.erfc(op, inputs[0]),)


def _clip(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """With limits as inputs, or, before opset 11, as attributes: then they have defaults."""
    x, *given = inputs
    low: Any
    high: Any
    if (node.version or op.opset) < CLIP_TAKES_INPUTS:
        low, high = _number(node, "min", -FLOAT32_MAX), _number(node, "max", FLOAT32_MAX)
    else:
        low, high = (*given, None, None)[:2]
    raised = x if low is None else op.Max(x, low)
    return (raised if high is None else op.Min(raised, high),)


def _floor(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.floor(op, inputs[0]),)


def _round(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.nearest(op, inputs[0]),)


def _sign(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (formulas.sign(op, inputs[0]),)


def _greater(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.Less(inputs[1], inputs[0]),)


def _greater_or_equal(op: Any, _: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    return (op.LessOrEqual(inputs[1], inputs[0]),)


def _ours(op: Any, node: ir.Node, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """By the record: 16-bit tensors and real parameters come in the dtype computed in."""
    activation, operator, graph = OURS[node.op_type]
    count = tensors_of(node)
    reals: dict[str, Any] = {**activation.defaults(operator)}
    reals |= {name: v for name, v in attributes_of(node).items() if name in reals}
    reals |= dict(zip(operator.reals, inputs[count:], strict=False))
    return signature.function(operator, graph)(op, *inputs[:count], **reals)


OURS: Mapping[str, tuple[Activation, Operator, Graph]] = MappingProxyType(
    {
        signature.op_type(operator, graph): (activation, operator, graph)
        for activation in ACTIVATIONS.values()
        for operator in activation.operators
        for graph in GRAPHS
    }
)
"""Our operators by their names."""

REPLACEABLE: Mapping[Identifier, Draw] = MappingProxyType(
    {
        ("", "Sigmoid"): _sigmoid,
        ("", "Swish"): _swish,
        ("", "SwiGLU"): _swiglu,
        ("", "Gelu"): _gelu,
        ("", "Mish"): _mish,
        ("", "HardSwish"): _hardswish,
        ("", "HardSigmoid"): _hardsigmoid,
        ("", "Clip"): _clip,
        ("", "Cos"): _cosine,
        ("", "Erfc"): _erfc,
        ("", "Floor"): _floor,
        ("", "Round"): _round,
        ("", "Sign"): _sign,
        ("", "Greater"): _greater,
        ("", "GreaterOrEqual"): _greater_or_equal,
        (CONTRIB, "QuickGelu"): _quick_gelu,
        (CONTRIB, "Gelu"): _gelu,
        (CONTRIB, "BiasGelu"): _bias_gelu,
        (CONTRIB, "FastGelu"): _fast_gelu,
        (CONTRIB, "SwiGLU"): _swiglu_clamped,
        **{(DOMAIN, op_type): _ours for op_type in OURS},
    }
)

OF_ANY_TYPE = frozenset({("", "Clip"), ("", "Greater"), ("", "GreaterOrEqual")})
"""Those that are written in others without a constant: for integers, too."""


def draws(node: ir.Node) -> Draw | None:
    """How ``node`` is written in other operators; None, if it cannot be."""
    if identifier_of(node) == (CONTRIB, "SwiGLU") and (
        len(node.inputs) < 2 or attributes_of(node).get("round_activation")  # noqa: PLR2004
    ):
        return None  # packed in one input, or rounded in between
    return REPLACEABLE.get(identifier_of(node))
