"""Functions of our operators in a model: their decompositions, for runtimes without our kernels."""

from __future__ import annotations

import itertools
from typing import Any

import onnx
import onnx_ir as ir

from gatewave.graphs.ops.functions import body_of
from gatewave.models import DType
from gatewave.models.catalogue import OPERATORS

WITH_FUNCTIONS = 8
"""First IR version with model-local functions."""

WITH_OVERLOADS = 10
"""First IR version in which functions of one name may differ by their overload."""


def add_function(model: ir.Model, op_type: str, dtype: DType, opset: int) -> ir.Function:
    """Return the function of our operator; the model gets it unless it has one that is the same.

    The body depends on the element type, the opset and our version. If the model already has a
    function of that name with another body, the new one is an overload.
    """
    new = body_of(*OPERATORS[op_type], "value", dtype, opset)
    overloads = itertools.chain(["", dtype], (f"{dtype}_{n}" for n in itertools.count(1)))
    for overload in overloads:
        new.overload = overload
        found = model.functions.setdefault(new.identifier(), new)
        if found is new:
            _move_to_front(model, new)
        if found is new or _is_same(found, new):
            break
    return found


def ir_version_for(function: ir.Function) -> int:
    return WITH_OVERLOADS if function.overload else WITH_FUNCTIONS


def _move_to_front(model: ir.Model, function: ir.Function) -> None:
    """Put ``function`` before the others, which may call it.

    ONNX's reference evaluator reads the functions in order, and knows a callee only if it came
    before.
    """
    others = {**model.functions}
    model.functions.clear()
    model.functions.update({function.identifier(): function, **others})


def _is_same(one: ir.Function, other: ir.Function) -> bool:
    """Return true if two functions have the same nodes and value names."""
    return bool(_content(one) == _content(other))


def _content(function: ir.Function) -> Any:
    proto = ir.to_proto(function)
    nodes = [
        (node.op_type, tuple(node.input), tuple(node.output), [_plain(a) for a in node.attribute])
        for node in proto.node
    ]
    return list(proto.input), list(proto.output), nodes


def _plain(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(value)
        value = (array.dtype.name, array.tobytes())
    return attribute.name, value
