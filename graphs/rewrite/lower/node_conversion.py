"""Conversion of one node to another opset, by ONNX's own converter.

The converter gets a model of the node alone. It is not trusted: onnx 1.23 ignores element types,
leaves attributes that the new version does not know, and refuses operators without a rule although
their versions agree. `conversion_rules` has the operators that it gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx
import onnx_ir as ir
from onnx import version_converter

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import Types
from gatewave.graphs.analysis.ranks import ShapeOf
from gatewave.graphs.processes.reasons import reason_of
from gatewave.graphs.rewrite.lower.conversion_rules import (
    PAD_WITH_INPUTS,
    SPLIT_WITH_INPUTS,
    NodeConversion,
    NotConvertibleError,
    obstacle_to_keeping,
    redrawn,
)
from gatewave.graphs.rewrite.lower.excerpts import MAX_CONSTANT
from gatewave.graphs.rewrite.lower.operator_schemas import (
    TYPE_NAMES,
    default,
    disallowed,
    disallowed_container,
    since,
)

CONTROL = {"If": 1, "Loop": 11, "Scan": 9}
"""Operators with bodies; from these opsets on, newer versions only allow more element types.

`Scan`-8 has an input that `Scan`-9 lacks. The converter does not convert what is in a body, and is
not asked.
"""

MEANINGS = {
    ("GroupNormalization", 21): "its scale is per group before, per channel after",
}
"""Changes of meaning for the same inputs and attributes, by operator and opset."""

VALUES: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("Pad", "mode"): {"wrap": 19},
    ("Resize", "coordinate_transformation_mode"): {"half_pixel_symmetric": 19},
    ("ScatterElements", "reduction"): {"max": 18, "min": 18},
    ("ScatterND", "reduction"): {"max": 18, "min": 18},
}
"""Values that an attribute may have from an opset on: the attribute itself is older."""

PLACEHOLDERS = {
    ir.AttributeType.FLOAT: 1.0,
    ir.AttributeType.INT: 1,
    ir.AttributeType.STRING: "",
    ir.AttributeType.FLOATS: [1.0],
    ir.AttributeType.INTS: [1],
}
"""Values that stand for attributes which the caller of a function gives, while a node is alone."""


def converted(
    node: ir.Node, before: int, after: int, types: Types, shape_of: ShapeOf
) -> ir.Graph | None:
    """Return the replacement of ``node``; None if it stays.

    Raises:
        NotConvertibleError: No node of the other opset does the same.
    """
    old, new = since(node.op_type, before), since(node.op_type, after)
    if old == new and old is not None:
        return None
    step = NodeConversion(node, before, after, lambda v: v.dtype or types.get(v), shape_of)
    if why := _obstacle(step):
        raise NotConvertibleError(why)
    if any(True for _ in element_types.bodies(node)):
        return None  # see CONTROL; the nodes in its bodies are converted one by one
    found = _found(step, types)
    if found is not None or after < before:
        _check(step, found, types)
    return found


def _found(step: NodeConversion, types: Types) -> ir.Graph | None:
    """Convert by our rule, else by the converter; keep the node if both versions agree."""
    node = step.node
    # Split-18 adds `num_outputs`, which a node with the sizes of its parts must not have.
    if _is_given_sizes(node) and min(step.before, step.after) >= SPLIT_WITH_INPUTS:
        return None
    by_rule = redrawn(step, lambda node, opset: _alone(node, opset, types))
    if by_rule is not None:
        return by_rule
    return _asked(step, types)


def _check(step: NodeConversion, found: ir.Graph | None, types: Types) -> None:
    """Run ONNX's checker on the result: the converter ignores element types.

    A node that was invalid before is not refused for that: runtimes may run it.

    Raises:
        NotConvertibleError: It refuses the result, but not the original node.
    """
    result = _alone(step.node, step.after, types).graph if found is None else found.clone()
    if (why := _complaint(result, step)) and not _complaint(
        _alone(step.node, step.before, types).graph, step
    ):
        raise NotConvertibleError(f"in opset {step.after}, ONNX's checker says: {why}")


def _complaint(graph: ir.Graph, step: NodeConversion) -> str:
    """Return the first line of the checker's error; empty if the node is valid."""
    kept = [output for output in step.node.outputs if output.name]
    for twin, output in zip(graph.outputs, kept, strict=True):
        shape = output.shape or step.shape_of(output)
        twin.shape = None if shape is None else ir.Shape(shape.dims)
    try:
        onnx.checker.check_model(ir.to_proto(ir.Model(graph, ir_version=10)), full_check=True)
    except Exception as error:  # noqa: BLE001 - its errors have no common class
        return str(error).strip().splitlines()[0]
    return ""


def _obstacle(step: NodeConversion) -> str:
    """Return the reason why the node has no equivalent there; empty if it may have one."""
    node, before, after = step.node, step.before, step.after
    old, new = since(node.op_type, before), since(node.op_type, after)
    if new is None:
        return f"there is none in opset {after}"
    if why := _untold(node, before, after):
        return why
    kind = disallowed(node, after, step.dtype_of)
    if kind is not None and disallowed(node, before, step.dtype_of) is None:
        return f"it takes no {TYPE_NAMES[kind]} in opset {after}"
    if any(True for _ in element_types.bodies(node)):
        if node.op_type not in CONTROL or min(old or 0, new) < CONTROL[node.op_type]:
            return f"versions {old} and {new} differ"
        return disallowed_container(node, after)
    return ""


def _untold(node: ir.Node, before: int, after: int) -> str:
    """Return the reason why the node has another meaning there; empty if it has the same."""
    for (op_type, changed), meaning in MEANINGS.items():
        if node.op_type == op_type and min(before, after) < changed <= max(before, after):
            return meaning
    for (op_type, name), firsts in VALUES.items():
        attribute = node.attributes.get(name) if node.op_type == op_type else None
        value = "" if attribute is None or attribute.is_ref() else str(_plain(attribute.value))
        if after < firsts.get(value, 0):
            return f"its {name} {value} is not known before opset {firsts[value]}"
    return ""


def _asked(step: NodeConversion, types: Types) -> ir.Graph | None:
    node, before, after = step.node, step.before, step.after
    try:
        found = _ask(_alone(node, before, types), after)
    except NotConvertibleError:
        # The converter also refuses operators that it has no rule for. The node may then stay if
        # the schemas of both versions agree as far as it uses them.
        if _is_unchanged(node, min(before, after)):
            return None
        if obstacle_to_keeping(step):
            raise
        found = _alone(node, after, types).graph
    for other in found:
        _forget(other, before, after)
    if _same(node, found):
        return None
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise NotConvertibleError("one of its attributes comes from the caller of its function")
    return found


def _is_unchanged(node: ir.Node, oldest: int) -> bool:
    """Return true if ``node`` means the same in both versions, though the converter has no rule."""
    if node.op_type == "Pad":
        return oldest >= PAD_WITH_INPUTS and len(node.inputs) < 4  # noqa: PLR2004 - without axes
    return node.op_type == "Identity" or (node.op_type == "Shape" and not node.attributes)


def _forget(node: ir.Node, before: int, after: int) -> None:
    """Remove attributes that ``after`` does not know: the converter leaves them.

    Raises:
        NotConvertibleError: One has another value than its default.
    """
    known = onnx.defs.get_schema(node.op_type, after, "").attributes
    for name in [name for name in node.attributes if name not in known]:
        usual = default(node.op_type, before, name)
        if _plain(node.attributes[name].value) != _plain(usual):
            raise NotConvertibleError(f"its attribute {name} is not known in opset {after}")
        node.attributes.pop(name)


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _is_given_sizes(node: ir.Node) -> bool:
    return node.op_type == "Split" and len(node.inputs) > 1 and node.inputs[1] is not None


def _alone(node: ir.Node, opset: int, types: Types) -> ir.Model:
    """Return a model of ``node`` alone; its values are named ``i0``, ``o0``, ….

    Small constants are kept: the converter needs axes and scales to convert some operators.
    """
    twins: dict[ir.Value, ir.Value] = {}
    for index, value in enumerate(node.inputs):
        if value is not None and value not in twins:
            twins[value] = _twin(value, f"i{index}", types)
    attributes = {
        name: ir.Attr(name, a.type, PLACEHOLDERS.get(a.type)) if a.is_ref() else a
        for name, a in node.attributes.items()
    }
    alone = ir.node(
        node.op_type,
        [None if value is None else twins[value] for value in node.inputs],
        attributes=attributes,
        num_outputs=len(node.outputs),
    )
    for index, (twin, output) in enumerate(zip(alone.outputs, node.outputs, strict=True)):
        twin.name = f"o{index}" if output.name else ""
        twin.type = _type(output, types)
    outputs = [output for output in alone.outputs if output.name]
    constants = [twin for twin in twins.values() if twin.const_value is not None]
    graph = ir.Graph(
        [twin for twin in twins.values() if twin.const_value is None],
        outputs,
        nodes=[alone],
        initializers=constants,
        opset_imports={"": opset},
        name="alone",
    )
    return ir.Model(graph, ir_version=8)


def _twin(value: ir.Value, name: str, types: Types) -> ir.Value:
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None and constant.size <= MAX_CONSTANT:
        copy = ir.tensor(constant.numpy(), dtype=constant.dtype, name=name)
        held = ir.Shape(constant.numpy().shape)
        return ir.Value(name=name, type=ir.TensorType(constant.dtype), shape=held, const_value=copy)
    shape = None if value.shape is None else ir.Shape(value.shape.dims)
    return ir.Value(name=name, type=_type(value, types), shape=shape)


def _type(value: ir.Value, types: Types) -> ir.TypeProtocol:
    """Return the type as stated (for sequences) or inferred; float32 if it is not known."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return value.type
    return ir.TensorType(value.dtype or types.get(value, ir.DataType.FLOAT))


def _ask(model: ir.Model, opset: int) -> ir.Graph:
    proto = ir.to_proto(model)
    try:
        return ir.from_proto(version_converter.convert_version(proto, opset)).graph
    except Exception as error:
        raise NotConvertibleError(f"ONNX's converter: {reason_of(str(error))}") from error


def _same(node: ir.Node, graph: ir.Graph) -> bool:
    """Return true if the conversion left the node unchanged."""
    if len(graph) != 1 or graph[0].op_type != node.op_type:
        return False
    known = given(node)
    inputs = [value and known[value.name or ""] for value in graph[0].inputs]
    # Placeholders of attributes that the caller of a function gives are no news.
    before = {name: a.value for name, a in node.attributes.items() if not a.is_ref()}
    after = {
        name: graph[0].attributes[name].value for name in before if name in graph[0].attributes
    }
    return (
        inputs == list(node.inputs)
        and set(graph[0].attributes) == set(node.attributes)
        and all(_equal(before[name], after[name]) for name in before)
    )


def _equal(before: Any, after: Any) -> bool:
    return isinstance(before, ir.TensorProtocol) or before == after


def given(node: ir.Node) -> dict[str, ir.Value]:
    """The inputs of ``node``, by the names that `_alone` gave them."""
    first = {value: index for index, value in reversed([*enumerate(node.inputs)]) if value}
    return {f"i{index}": value for value, index in first.items()}
