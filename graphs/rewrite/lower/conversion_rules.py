"""Opset conversions that ONNX's converter lacks or gets wrong, by the standard's text.

Each takes a node and returns a graph, or None if the rule does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

CLIP_WITH_INPUTS = 11
"""First opset at which `Clip` has its limits as inputs, of the element type of the tensor."""

PAD_WITH_INPUTS = 11
"""First opset at which `Pad` takes the sizes as inputs, and the value in its type."""

SPLIT_WITH_INPUTS = 13
"""First opset at which `Split` takes the sizes of its parts as an input."""

SPLIT_WITH_NUM_OUTPUTS = 18
"""First opset at which `Split` has the attribute `num_outputs`."""

GRIDS_OF_ANY_RANK = 20
"""First opset at which `GridSample` takes volumes; its mode ``bilinear`` is ``linear`` there."""

ALONG_ONE_AXIS = 13
"""First opset at which `Softmax` and its relatives use one axis; before, also all later axes."""

COORDINATES_TOLD = 11
"""First opset in which `Resize` states how result coordinates map to input coordinates."""

RATIOS_BY_AXIS = 7
"""First opset at which `Upsample` has a ratio for each axis; from 9 on, they are an input."""

GRID_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}

NEGATIVE_AXES = 11
"""First opset at which axes may be counted from the end."""

FLOAT32_MAX = float(np.finfo(np.float32).max)

Alone = Callable[[ir.Node, int], ir.Model]
"""Makes a model of a single node at an opset."""


class NotConvertibleError(Exception):
    """A node cannot be converted to another opset; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class NodeConversion:
    """A node to convert to another opset.

    Attributes:
        node: The node.
        before: The opset that it is written in.
        after: The opset wanted.
        dtype_of: The element type of a value; None, if it is not known.
        shape_of: The shape of a value as far as it is inferred.
    """

    node: ir.Node
    before: int
    after: int
    dtype_of: Callable[[ir.Value], ir.DataType | None]
    shape_of: Callable[[ir.Value], ir.Shape | None]

    def crosses(self, opset: int) -> bool:
        """Return true if ``opset`` lies between the two, so that one has its change."""
        return min(self.before, self.after) < opset <= max(self.before, self.after)

    @property
    def rises(self) -> bool:
        return self.after > self.before

    @property
    def falls(self) -> bool:
        return self.after < self.before


def redrawn(step: NodeConversion, alone: Alone) -> ir.Graph | None:
    """Return the replacement of the node by a rule of ours; None if there is no rule.

    Raises:
        NotConvertibleError: The rule needs to know an element type that is not known.
    """
    rule = _RULES.get(step.node.op_type)
    if rule is None or any(attribute.is_ref() for attribute in step.node.attributes.values()):
        return None
    graph = alone(step.node, step.after).graph
    return graph if rule(step, graph) else None


def _clip(step: NodeConversion, graph: ir.Graph) -> bool:
    """Make the limits constants of the tensor's type: the converter makes them float32.

    Before opset 11 the limits are attributes, which default to the range of float32, whatever the
    tensor's type is; so both are always written.
    """
    if not (step.rises and step.crosses(CLIP_WITH_INPUTS)):
        return False
    kind, node = _dtype(step), graph[0]
    limits = []
    for name, default in (("min", -FLOAT32_MAX), ("max", FLOAT32_MAX)):
        attribute = node.attributes.pop(name, None)
        number = default if attribute is None else attribute.as_float()
        with np.errstate(over="ignore"):  # in float16, the range of float32 becomes infinite
            limits.append(_constant(graph, node, np.array(number, kind.numpy())))
    _set_inputs(node, 1, limits)
    return True


def _pad(step: NodeConversion, graph: ir.Graph) -> bool:
    """Make the sizes integers, and the value a constant of the tensor's type."""
    node = graph[0]
    if not (step.rises and step.crosses(PAD_WITH_INPUTS)) or "pads" not in node.attributes:
        return False
    pads = np.array(node.attributes.pop("pads").as_ints(), np.int64)
    value = node.attributes.pop("value", None)
    number = 0.0 if value is None else value.as_float()
    given = [pads, np.array(number, _dtype(step).numpy())]
    _set_inputs(node, 1, [_constant(graph, node, array) for array in given])
    return True


def _dtype(step: NodeConversion) -> ir.DataType:
    """Return the element type of the first input.

    Raises:
        NotConvertibleError: It is not known.
    """
    x = step.node.inputs[0]
    kind = None if x is None else step.dtype_of(x)
    if kind is None:
        raise NotConvertibleError(
            f"the element type of {x.name if x is not None else ''!r} is not known"
        )
    return kind


def _split(step: NodeConversion, graph: ir.Graph) -> bool:
    """Write the sizes of the parts: all equal except the last, which may be smaller."""
    node = graph[0]
    if step.rises or not step.crosses(SPLIT_WITH_NUM_OUTPUTS) or len(node.inputs) != 1:
        return False
    x, length = step.node.inputs[0], None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    shape = None if x is None else step.shape_of(x)
    if shape is not None:
        length = shape[axis] if -len(shape) <= axis < len(shape) else None
    if "num_outputs" not in node.attributes or (shape is not None and length is None):
        return False
    if (parts := node.attributes.pop("num_outputs").as_int()) < 1:
        return False
    if isinstance(length, int):
        # Opset 18: if the length is no multiple of the number, the last part is smaller.
        size = -(-length // parts)
        _give_sizes(step, graph, [size] * (parts - 1) + [length - size * (parts - 1)])
        return True
    if step.after >= SPLIT_WITH_INPUTS:
        _set_inputs(node, 1, [_sizes(graph, node, axis, parts)])
    return step.after >= SPLIT_WITH_INPUTS


def _give_sizes(step: NodeConversion, graph: ir.Graph, sizes: list[int]) -> None:
    node = graph[0]
    if len(set(sizes)) == 1:
        return  # without sizes, the parts are equal in every version
    if step.after < SPLIT_WITH_INPUTS:
        node.attributes.add(ir.AttrInt64s("split", sizes))
    else:
        _set_inputs(node, 1, [_constant(graph, node, np.array(sizes, np.int64))])


def _set_inputs(node: ir.Node, first: int, values: list[ir.Value]) -> None:
    node.resize_inputs(first + len(values))
    for index, value in enumerate(values, first):
        node.replace_input_with(index, value)


def _sizes(graph: ir.Graph, node: ir.Node, axis: int, parts: int) -> ir.Value:
    """Compute the sizes of the parts of an axis whose length is only known at run time."""

    def constant(number: int) -> ir.Value:
        return _constant(graph, node, np.array([number], np.int64))

    shape = _node(graph, node, "Shape", [node.inputs[0]])
    length = _node(graph, node, "Gather", [shape, constant(axis)], axis=0)
    raised = _node(graph, node, "Add", [length, constant(parts - 1)])
    size = _node(graph, node, "Div", [raised, constant(parts)])
    before = _node(graph, node, "Mul", [size, constant(parts - 1)])
    last = _node(graph, node, "Sub", [length, before])
    return _node(graph, node, "Concat", [*[size] * (parts - 1), last], axis=0)


def _grid_sample(step: NodeConversion, graph: ir.Graph) -> bool:
    """Use the mode's older name, if the input is an image."""
    x = step.node.inputs[0]
    shape = None if x is None else step.shape_of(x)
    images = shape is not None and len(shape) == 4  # noqa: PLR2004 - a batch of images
    if step.rises or not step.crosses(GRIDS_OF_ANY_RANK) or not images:
        return False
    node = graph[0]
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "linear"
    node.attributes.add(ir.AttrString("mode", GRID_MODES.get(mode, mode)))
    return True


def _resize(step: NodeConversion, graph: ir.Graph) -> bool:
    """State the old implicit mapping: a coordinate is the result's, divided by the ratio.

    The converter leaves the newer default, ``half_pixel``. In mode ``nearest``, the older operator
    does not say how coordinates are rounded. ONNX Runtime rounds down if the tensor grows, and up
    if it shrinks, so this is written. A tensor with unknown ratios is taken to grow.

    Raises:
        NotConvertibleError: The nearest places are wanted of a tensor that grows and shrinks.
    """
    if not (step.rises and step.crosses(COORDINATES_TOLD)) or step.before < RATIOS_BY_AXIS:
        return False
    node, given = graph[0], step.node.inputs
    known: np.ndarray = np.ones(0)
    if "scales" in node.attributes:
        known = np.array(node.attributes.pop("scales").as_floats(), np.float32)
        ratios: ir.Value | None = _constant(graph, node, known)
    else:
        ratios = node.inputs[1] if len(node.inputs) > 1 else None
        told = (
            ir.convenience.get_const_tensor(given[1]) if ratios is not None and given[1] else None
        )
        known = known if told is None else told.numpy()
    if ratios is None:
        return False
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    if mode == "nearest" and known.size and known.min() < 1 < known.max():
        raise NotConvertibleError(
            "it grows on one axis and shrinks on another, and no rounding mode fits both"
        )
    shrinks = bool(known.size and known.min() < 1)
    # Resize-11 requires the region of interest, which only `tf_crop_and_resize` reads.
    none = _constant(graph, node, np.zeros(0, np.float32))
    node.op_type = "Resize"
    node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
    node.attributes.add(ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))
    _set_inputs(node, 1, [none, ratios])
    return True


def _softmax(step: NodeConversion, graph: ir.Graph) -> bool:
    """Keep the axes that are summed over.

    Before opset 13, the input is coerced to two dimensions at ``axis``, whose default is 1: the sum
    goes over that axis and all later ones. From 13 on it goes over one axis, by default the last.
    """
    if not step.crosses(ALONG_ONE_AXIS):
        return False
    node, x = graph[0], step.node.inputs[0]
    axis = (
        node.attributes["axis"].as_int() if "axis" in node.attributes else -1 if step.falls else 1
    )
    shape = None if x is None else step.shape_of(x)
    # If the rank is unknown, -1 alone surely names the last axis, which has no later ones.
    if shape is None and axis == -1 and min(step.before, step.after) >= NEGATIVE_AXES:
        last = -1
    elif shape is None and step.falls:
        raise NotConvertibleError(f"the rank of {x.name if x is not None else ''!r} is not known")
    else:
        last = -1 if shape is None else len(shape) - 1
    if axis in (-1, last):
        node.attributes.add(ir.AttrInt64("axis", last))
    elif step.falls:
        _along_the_last(graph, node, axis, last)
    else:
        _along_the_rest(graph, node, axis)
    return True


def _along_the_last(graph: ir.Graph, node: ir.Node, axis: int, last: int) -> None:
    """Swap the axis with the last one, and swap them back afterwards."""
    order = [*range(last + 1)]
    order[axis], order[last] = last, order[axis]
    moved = _node(graph, node, "Transpose", [node.inputs[0]], perm=order)
    found = _node(graph, node, node.op_type, [moved], axis=last)
    _become(node, "Transpose", [found], ir.AttrInt64s("perm", order))


def _along_the_rest(graph: ir.Graph, node: ir.Node, axis: int) -> None:
    """Flatten the axis and all later ones into one, and reshape the result back."""
    flat = _node(graph, node, "Flatten", [node.inputs[0]], axis=axis)
    found = _node(graph, node, node.op_type, [flat], axis=-1)
    shape = _node(graph, node, "Shape", [node.inputs[0]])
    _become(node, "Reshape", [found, shape])


def _become(node: ir.Node, op_type: str, inputs: list[ir.Value], *attributes: ir.Attr) -> None:
    """Turn ``node`` into another operator; its outputs stay."""
    node.op_type = op_type
    node.attributes.clear()
    for attribute in attributes:
        node.attributes.add(attribute)
    _set_inputs(node, 0, inputs)


_RULES: Mapping[str, Callable[[NodeConversion, ir.Graph], bool]] = {
    "Clip": _clip,
    "Pad": _pad,
    "Split": _split,
    "GridSample": _grid_sample,
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
}


def _constant(graph: ir.Graph, node: ir.Node, array: np.ndarray) -> ir.Value:
    return _node(graph, node, "Constant", [], value=ir.tensor(array))


def _node(
    graph: ir.Graph, node: ir.Node, op_type: str, inputs: list[ir.Value | None], **attributes: Any
) -> ir.Value:
    """Draw an operator before ``node``; the value's name is free in a model of one node."""
    made = ir.node(op_type, inputs, attributes=attributes)
    made.outputs[0].name = f"m{len(graph)}"
    graph.insert_before(node, made)
    return made.outputs[0]


def obstacle_to_keeping(step: NodeConversion) -> str:
    """Return why a node without a converter rule cannot stay unchanged; empty if it can.

    It can if the newer version only adds element types, optional inputs, and attributes with a
    default, and the node does not use them.
    """
    if step.node.op_type in REDEFINED:
        return f"versions {_version(step, step.before)} and {_version(step, step.after)} differ"
    old, new = (
        onnx.defs.get_schema(step.node.op_type, opset, "")
        for opset in sorted((step.before, step.after))
    )
    if step.crosses(NEGATIVE_AXES) and not step.rises and _counts_from_the_end(step.node):
        return f"axes count from the front before opset {NEGATIVE_AXES}"
    fits = (
        _fits(old.inputs, new.inputs)
        and _fits(old.outputs, new.outputs)
        and all(
            name in new.attributes and _alike(attribute, new.attributes[name])
            for name, attribute in old.attributes.items()
        )
    )
    if not fits:
        return f"versions {_version(step, step.before)} and {_version(step, step.after)} differ"
    known = onnx.defs.get_schema(step.node.op_type, step.after, "")
    if len(step.node.inputs) > known.max_input or len(step.node.outputs) > known.max_output:
        return f"opset {step.after} knows fewer inputs or outputs of it"
    return ""


REDEFINED = frozenset({"GroupNormalization", "Pad", "Resize", "Scan", "Upsample"})
"""Operators whose versions differ in meaning for the same inputs and attributes."""


def _version(step: NodeConversion, opset: int) -> int:
    return int(onnx.defs.get_schema(step.node.op_type, opset, "").since_version)


def _fits(old: Any, new: Any) -> bool:
    """Return true if a newer version has the ports of the older one, and perhaps more."""
    return len(old) <= len(new) and all(
        b.option in (a.option, onnx.defs.OpSchema.FormalParameterOption.Optional)
        for a, b in zip(old, new, strict=False)
    )


def _alike(one: Any, other: Any) -> bool:
    return bool(
        one.type == other.type
        and one.default_value.SerializeToString() == other.default_value.SerializeToString()
    )


def _counts_from_the_end(node: ir.Node) -> bool:
    for name in ("axis", "axes"):
        attribute = node.attributes.get(name)
        if attribute is not None and not attribute.is_ref():
            values = attribute.value if isinstance(attribute.value, (list, tuple)) else None
            if any(number < 0 for number in values or [attribute.value]):
                return True
    return False
