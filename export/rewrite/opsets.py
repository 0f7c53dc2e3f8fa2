"""Another version of the standard operators for a model, without changing what it computes.

A node whose operator is the same in both versions stays as it is. Of any other a model is made,
of that node alone, and ONNX's own converter is asked for it; what comes back takes its place. So
names, functions, bodies, metadata and external data are never in the converter's hands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir
from onnx import version_converter

from export.errors import TargetError
from export.rewrite import element_types
from export.rewrite.change import Change
from export.rewrite.element_types import Types
from export.rewrite.naming import Names
from export.rewrite.scopes import Scope, scopes
from export.rewrite.splicing import splice

STANDARD = ("", "ai.onnx")
SMALL = 1024
"""Constants of so many elements are shown to the converter: it may want to know axes or scales."""

CONTROL = {"If": 1, "Loop": 11, "Scan": 9}
"""Operators with bodies; from these opsets on, newer versions only allow more element types."""

MEANINGS = {("GroupNormalization", 21): "its scale is given per group before, per channel after"}
"""What the converter passes unchanged, but must not, with the opset in which the meaning changed."""

PLACEHOLDERS = {
    ir.AttributeType.FLOAT: 1.0,
    ir.AttributeType.INT: 1,
    ir.AttributeType.STRING: "",
    ir.AttributeType.FLOATS: [1.0],
    ir.AttributeType.INTS: [1],
}


class _Stays(Exception):  # noqa: N818 - a state
    """A node cannot be brought to another opset; the message says why."""


def convert(model: ir.Model, opset: int, *, exempt: Callable[[ir.Node], bool]) -> list[Change]:
    """Bring the model and its functions to ``opset``; it stays as it was if that cannot be.

    Args:
        model: It is changed in place.
        opset: The version of the standard operators.
        exempt: Says which nodes are rewritten later anyway, and so need no conversion.

    Raises:
        TargetError: A node has no equivalent there; the message names all of them.
    """
    types = element_types.of_model(model)
    planned: list[tuple[Scope, ir.Node, ir.Graph]] = []
    obstacles: list[str] = []
    for scope in [s for s in scopes(model) if _standard(s.opsets) not in (None, opset)]:
        for node in scope.graph:
            if node.domain in STANDARD and not exempt(node):
                try:
                    converted = _converted(node, _standard(scope.opsets) or opset, opset, types)
                except _Stays as reason:
                    obstacles.append(f"{_label(scope, node)} ({reason})")
                else:
                    planned += [(scope, node, converted)] if converted is not None else []
    if obstacles:
        raise TargetError(f"opset {opset} cannot be reached because of {'; '.join(obstacles)}")
    names = Names(model)
    changes = [_replace(scope, node, graph, names) for scope, node, graph in planned]
    return [*changes, *_stamp(model, opset)]


def _stamp(model: ir.Model, opset: int) -> Iterator[Change]:
    for label, imports in (
        ("", model.opset_imports),
        *((f"function {f.domain}::{f.name}", f.opset_imports) for f in model.functions.values()),
    ):
        before = _standard(imports)
        if before not in (None, opset):
            imports.pop("ai.onnx", None)
            imports[""] = opset
            yield Change(label, "", f"opset {before} → {opset}", "opset")


def _standard(imports: Mapping[str, int]) -> int | None:
    return imports.get("", imports.get("ai.onnx"))


def since(op_type: str, opset: int) -> int | None:
    """The version of an operator that ``opset`` means; None, if it has none."""
    try:
        return int(onnx.defs.get_schema(op_type, opset, "").since_version)
    except onnx.defs.SchemaError:
        return None


def _converted(node: ir.Node, before: int, after: int, types: Types) -> ir.Graph | None:
    """What takes the place of ``node``; None, if it stays.

    Raises:
        _Stays: Nothing does.
    """
    old, new = since(node.op_type, before), since(node.op_type, after)
    if old == new and old is not None:
        return None
    if new is None:
        raise _Stays(f"there is none in opset {after}")
    for (op_type, changed), meaning in MEANINGS.items():
        if node.op_type == op_type and min(before, after) < changed <= max(before, after):
            raise _Stays(meaning)
    if node.op_type in CONTROL and min(old or 0, new) >= CONTROL[node.op_type]:
        return None
    if any(True for _ in element_types.bodies(node)):
        raise _Stays(f"versions {old} and {new} differ")
    converted = _ask(_alone(node, before, types), after)
    if _same(node, converted):
        return None
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        raise _Stays("it takes an attribute from the caller of its function, and would change")
    return converted


def _alone(node: ir.Node, opset: int, types: Types) -> ir.Model:
    """A model of ``node`` alone; its values have names of their own."""
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
        twin.type = ir.TensorType(output.dtype or types.get(output, ir.DataType.FLOAT))
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
    kind = value.dtype or types.get(value, ir.DataType.FLOAT)
    constant = ir.convenience.get_const_tensor(value)
    if constant is not None and constant.size <= SMALL:
        copy = ir.tensor(constant.numpy(), dtype=constant.dtype, name=name)
        return ir.Value(
            name=name, type=ir.TensorType(constant.dtype), shape=copy.shape, const_value=copy
        )
    return ir.Value(name=name, type=ir.TensorType(kind), shape=value.shape)


def _ask(model: ir.Model, opset: int) -> ir.Graph:
    proto = ir.to_proto(model)
    try:
        return ir.from_proto(version_converter.convert_version(proto, opset)).graph
    except Exception as error:
        reason = str(error).rpartition("failed: ")[2].strip().splitlines()[-1]
        raise _Stays(f"ONNX's converter: {reason}") from error


def _same(node: ir.Node, graph: ir.Graph) -> bool:
    """Whether the conversion left the node as it was."""
    if len(graph) != 1 or graph[0].op_type != node.op_type:
        return False
    known = _given(node)
    inputs = [value and known[value.name or ""] for value in graph[0].inputs]
    # Placeholders of attributes that the caller of a function gives are no news.
    before = {name: a.value for name, a in node.attributes.items() if not a.is_ref()}
    after = {name: graph[0].attributes[name].value for name in before if name in graph[0].attributes}
    return (
        inputs == list(node.inputs)
        and set(graph[0].attributes) == set(node.attributes)
        and all(_equal(before[name], after[name]) for name in before)
    )


def _equal(before: Any, after: Any) -> bool:
    return isinstance(before, ir.TensorProtocol) or before == after


def _given(node: ir.Node) -> dict[str, ir.Value]:
    """The inputs of ``node``, by the names that `_alone` gave them."""
    first = {value: index for index, value in reversed([*enumerate(node.inputs)]) if value}
    return {f"i{index}": value for value, index in first.items()}


def _replace(scope: Scope, node: ir.Node, graph: ir.Graph, names: Names) -> Change:
    given = _given(node)
    values = (*graph.inputs, *graph.initializers.values())
    known = {value: given[value.name or ""] for value in values if value.name in given}
    new: list[ir.Node] = []
    for other in graph:
        drawn = ir.node(
            other.op_type,
            [value and known[value] for value in other.inputs],
            attributes=other.attributes,
            num_outputs=len(other.outputs),
            name=node.name if other.op_type == node.op_type else _name(names, node, other),
        )
        for was, output in zip(other.outputs, drawn.outputs, strict=True):
            output.name = _name(names, node, other)
            known[was] = output
        new.append(drawn)
    kept = [output for output in node.outputs if output.name]
    results = [known[output] for output in graph.outputs]
    splice(scope.graph, [node], new, list(zip(kept, results, strict=True)))
    kinds = ", ".join(other.op_type for other in graph)
    label = f"{node.op_type} → {kinds}"
    return Change(scope.name, node.name or "", label, "opset", results[0].name or "")


def _name(names: Names, node: ir.Node, other: ir.Node) -> str:
    return names.free(f"{node.name or node.outputs[0].name}/{other.op_type}")


def _label(scope: Scope, node: ir.Node) -> str:
    where = f" in {scope.name}" if scope.name else ""
    return f"{node.op_type} {node.name or node.outputs[0].name!r}{where}"
