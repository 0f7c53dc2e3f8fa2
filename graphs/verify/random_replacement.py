"""Random operators replaced by fixed numbers, in a copy that is only run to be compared.

A seed is not enough: ONNX Runtime continues its sequence from run to run, the reference evaluator
starts again, and both draw different numbers from one seed. Each operator therefore becomes a
lookup in a table that is drawn once from the seed, with a result of the operator's shape. Every
runtime and every run gets the same numbers, and shapes that depend on them are equal, too.

The process that runs the model does this, so that the module imports `onnx` only.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import get_attribute_value

OLDEST = 9
"""The opset that brings `ConstantOfShape` and `NonZero`, which count elements."""

WITH_CUMSUM = 11
WITH_TRAINING = 12
WITH_AXES_AS_INPUT = 13
WITH_ALLOWZERO = 14
WITH_CAST_LIKE = 15

LENGTH = 4093
"""Numbers in a table: a prime, so that rows of a tensor differ."""

HIGHEST = 1 - 2**-12
"""Upper bound of uniform numbers: sums of probabilities may be less than 1 by their roundings."""

PREFIX = "gatewave_fixed_"

Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Fixed:
    """Settings for replacing random operators.

    Attributes:
        seed: Seed of the tables.
        alike: True if all operators draw the same numbers, because the two models name them
            differently and they cannot be matched.
        types: The element types of outputs, by name, that the operator itself does not determine.
    """

    seed: int
    alike: bool
    types: Mapping[str, int]


def is_random(node: onnx.NodeProto) -> bool:
    """Return true if ``node`` draws random numbers."""
    return node.domain in ("", "ai.onnx") and (
        node.op_type in DRAWN or (node.op_type == "Dropout" and _input(node, TRAINING) != "")
    )


def fix(model: onnx.ModelProto, fixed: Fixed) -> None:
    """Replace the random operators of ``model``, in place, in bodies and functions too."""
    numbers = iter(range(1 << 62))
    _fix(model.graph.node, _opset(model.opset_import), fixed, numbers)
    for function in model.functions:
        _fix(function.node, _opset(function.opset_import), fixed, numbers)


def can_fix(node: onnx.NodeProto, opset: int, types: Mapping[str, int]) -> bool:
    """Return true if `fix` replaces the random ``node``."""
    oldest = {"Multinomial": WITH_CUMSUM, "Dropout": WITH_TRAINING}.get(node.op_type, OLDEST)
    told = {attribute.name for attribute in node.attribute if not attribute.ref_attr_name}
    referred = {attribute.name for attribute in node.attribute} - told - {"seed"}
    known = (
        opset >= WITH_CAST_LIKE
        or "dtype" in told
        or node.op_type in TYPED
        or node.output[0] in types
    )
    return opset >= oldest and not referred and known


def _opset(imports: Sequence[onnx.OperatorSetIdProto]) -> int:
    return max((one.version for one in imports if one.domain in ("", "ai.onnx")), default=1)


def _fix(nodes: Any, opset: int, fixed: Fixed, numbers: Iterator[int]) -> None:
    new: Nodes = []
    for node in nodes:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):  # an empty one, if there is none
                _fix(graph.node, opset, fixed, numbers)
        if is_random(node) and can_fix(node, opset, fixed.types):
            new += _Drawn(node, opset, fixed, numbers).nodes
        else:
            new.append(node)
    if len(new) != len(nodes):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in new]
        del nodes[:]
        nodes.extend(kept)


class _Drawn:
    """The nodes that replace a random node."""

    def __init__(
        self, node: onnx.NodeProto, opset: int, fixed: Fixed, numbers: Iterator[int]
    ) -> None:
        self.nodes: Nodes = []
        self._old = node
        self._opset = opset
        self._types = fixed.types
        self._numbers = numbers
        self._attributes = {a.name: get_attribute_value(a) for a in node.attribute}
        key = 0 if fixed.alike else zlib.crc32(node.output[0].encode())
        self._source = np.random.default_rng([fixed.seed, key])
        (DRAWN.get(node.op_type) or _dropout)(self)

    def node(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{PREFIX}{next(self._numbers)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: str) -> str:
        tensor = numpy_helper.from_array(np.asarray(values, dtype))
        return self.node("Constant", value=tensor)

    def attribute(self, name: str, default: Any = None) -> Any:
        return self._attributes.get(name, default)

    def input(self, index: int) -> str:
        return _input(self._old, index)

    def output(self, index: int) -> str:
        outputs = self._old.output
        return outputs[index] if index < len(outputs) else ""

    def uniform(self, shape: str) -> str:
        return self._numbers_of(self._source.random(LENGTH) * HIGHEST, shape)

    def normal(self, shape: str) -> str:
        return self._numbers_of(self._source.standard_normal(LENGTH), shape)

    def shape(self) -> str:
        """Return the shape of the first input, or the one in the attribute."""
        if "shape" in self._attributes:
            return self.constant(self._attributes["shape"], "int64")
        return self.node("Shape", self.input(0))

    def wide(self, index: int) -> str:
        return self.node("Cast", self.input(index), to=TensorProto.FLOAT)

    def scaled(self, value: str, factor: float, offset: float) -> str:
        product = self.node("Mul", value, self.constant(factor, "float32"))
        return self.node("Add", product, self.constant(offset, "float32"))

    def over_axis(self, op_type: str, value: str, axis: int, **attributes: Any) -> str:
        """Add a node whose axes are an attribute up to opset 12, and an input from 13 on."""
        if self._opset < WITH_AXES_AS_INPUT:
            return self.node(op_type, value, axes=[axis], **attributes)
        return self.node(op_type, value, self.constant([axis], "int64"), **attributes)

    def finish(self, value: str, default: int = 0) -> None:
        """Make ``value`` the output, in the wanted element type, or that of the first input."""
        dtype = self.attribute("dtype", default) or self._types.get(self.output(0))
        if dtype:
            self.node("Cast", value, output=self.output(0), to=dtype)
        else:
            self.node("CastLike", value, self.input(0), output=self.output(0))

    def _numbers_of(self, table: Any, shape: str) -> str:
        """Return the numbers of ``table``, repeated, in that shape."""
        one = numpy_helper.from_array(np.ones(1, np.int64))
        flat = self.constant([-1], "int64")
        ones = self.node("Reshape", self.node("ConstantOfShape", shape, value=one), flat)
        index = self.node("Reshape", self.node("NonZero", ones), flat)
        length = self.constant(LENGTH, "int64")
        whole = self.node("Mul", self.node("Div", index, length), length)
        within = self.node("Sub", index, whole)
        # `whole` is index // length · length: `within` is the index modulo the length of the table.
        values = self.node("Gather", self.constant(table, "float32"), within)
        more: dict[str, Any] = {"allowzero": 1} if self._opset >= WITH_ALLOWZERO else {}
        return self.node("Reshape", values, shape, **more)


def _normal(drawn: _Drawn) -> None:
    scale, mean = drawn.attribute("scale", 1.0), drawn.attribute("mean", 0.0)
    drawn.finish(drawn.scaled(drawn.normal(drawn.shape()), scale, mean), _default(drawn))


def _uniform(drawn: _Drawn) -> None:
    low, high = drawn.attribute("low", 0.0), drawn.attribute("high", 1.0)
    drawn.finish(drawn.scaled(drawn.uniform(drawn.shape()), high - low, low), _default(drawn))


def _default(drawn: _Drawn) -> int:
    """Return float32, the type for operators without an input tensor."""
    return 0 if drawn.input(0) else TensorProto.FLOAT


def _bernoulli(drawn: _Drawn) -> None:
    drawn.finish(drawn.node("Less", drawn.uniform(drawn.shape()), drawn.wide(0)))


def _multinomial(drawn: _Drawn) -> None:
    """Count the cumulated probabilities that a uniform number is not below."""
    size = drawn.constant([drawn.attribute("sample_size", 1)], "int64")
    first = drawn.constant([0], "int64")
    batch = drawn.node("Gather", drawn.node("Shape", drawn.input(0)), first)
    chance = drawn.uniform(drawn.node("Concat", batch, size, axis=0))
    axis = drawn.constant(1, "int64")
    shares = drawn.node("CumSum", drawn.node("Softmax", drawn.wide(0), axis=1), axis)
    row, column = (
        drawn.over_axis("Unsqueeze", value, at) for value, at in ((shares, 1), (chance, 2))
    )
    above = drawn.node("Not", drawn.node("Less", column, row))
    counted = drawn.node("Cast", above, to=TensorProto.FLOAT)
    drawn.finish(drawn.over_axis("ReduceSum", counted, -1, keepdims=0), TensorProto.INT32)


def _dropout(drawn: _Drawn) -> None:
    """Drop if the training input is true; otherwise pass the data on."""
    data, training = drawn.input(0), drawn.input(TRAINING)
    ratio = drawn.wide(1) if drawn.input(1) else drawn.constant(0.5, "float32")
    kept = drawn.node("Not", drawn.node("Less", drawn.uniform(drawn.shape()), ratio))
    rest = drawn.node("Sub", drawn.constant(1, "float32"), ratio)
    factor = drawn.node("Div", drawn.node("Cast", kept, to=TensorProto.FLOAT), rest)
    dtype = drawn._types.get(drawn.output(0))  # noqa: SLF001 - of this module
    like = drawn.node("Cast", factor, to=dtype) if dtype else drawn.node("CastLike", factor, data)
    dropped = drawn.node("Mul", data, like)
    drawn.node("Where", training, dropped, data, output=drawn.output(0))
    if drawn.output(1):
        whole = drawn.node("Not", training)
        drawn.node("Or", kept, whole, output=drawn.output(1))


TRAINING = 2
"""Index of the input of `Dropout` that turns training on."""

DRAWN: Mapping[str, Callable[[_Drawn], None]] = {
    "RandomNormal": _normal,
    "RandomNormalLike": _normal,
    "RandomUniform": _uniform,
    "RandomUniformLike": _uniform,
    "Bernoulli": _bernoulli,
    "Multinomial": _multinomial,
}

TYPED = frozenset({"RandomNormal", "RandomUniform", "Multinomial"})
"""Operators with a default element type if no attribute gives one."""


def _input(node: onnx.NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""
