"""The ``op`` that draws nodes into a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.graphs.rewrite.editing.names import Names

FIRST_WITH_INITIALIZERS = 4
"""First IR version in which an initializer need not be a graph input.

Before, every initializer was an input as well, whose value a caller could change.
"""


class Constants:
    """Scalar constants that a rewrite adds to a model's main graph, each once."""

    def __init__(self, model: ir.Model, names: Names) -> None:
        self._graph = model.graph
        self._names = names
        self._made: dict[tuple[str, bytes], ir.Value] = {}
        self.are_initializers = (model.ir_version or 0) >= FIRST_WITH_INITIALIZERS

    def scalar(self, number: np.ndarray, name: str) -> ir.Value:
        """Return the initializer with this scalar; a new one is called ``name``, if that is free.

        Bytes are compared instead of values: -0.0 equals 0.0, but 1/-0.0 is not 1/0.0.
        """
        key = (number.dtype.name, number.tobytes())
        if key not in self._made:
            free = self._names.free(name)
            tensor = ir.tensor(number, name=free)
            value = ir.Value(
                name=free, type=ir.TensorType(tensor.dtype), shape=ir.Shape([]), const_value=tensor
            )
            self._graph.register_initializer(value)
            self._made[key] = value
        return self._made[key]


def release_inputs(node: ir.Node) -> None:
    """Remove all inputs of ``node``, which no longer counts as a user of these values."""
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


class Drawing(GraphOps):
    """Nodes that replace a node, or come before it; `Editor.drawing` makes one.

    Operands may be numbers. In the main graph and its bodies a number is an initializer of the
    main graph, since some runtimes take the limits and axes of an operator from initializers only.
    In a function, which has no initializers, and in files of an IR version before 4, it is a
    `Constant` node.

    For integers, constants are integers too; formulas with fractional constants are for floats
    only.
    """

    def __init__(
        self,
        dtype: ir.DataType,
        opset: int,
        *,
        prefix: str,
        names: Names,
        constants: Constants | None,
    ) -> None:
        super().__init__(NAMES.get(dtype, "float32"), opset)
        if dtype not in NAMES:
            self._numpy = dtype.numpy()
        self.is_unsigned = dtype.name.startswith("UINT")
        self._prefix = prefix
        self._names = names
        self._constants = constants

    def constant(self, number: float) -> ir.Value:
        return self._value(number)

    def parameter(self, name: str, number: float) -> ir.Value:
        """Return the constant that a node of ours takes as its real parameter ``name``."""
        array = np.array(number, self._numpy)
        if self._constants is not None:
            return self._constants.scalar(array, f"{name}_{number:g}")
        value = super()._draw("Constant", [], {"value": ir.tensor(array)})
        self.nodes[-1].name = value.name = self._names.free(f"{self._prefix}{name}")
        return value

    def tensor(self, numbers: Sequence[int] | int) -> ir.Value:
        """Draw integers, as axes or a shape, as a `Constant` node.

        ONNX's shape inference reads a shape from a `Constant` in the same graph. In a body it does
        not see the initializers of the main graph, and the shape would be unknown again.
        """
        return self._draw("Constant", [], {"value": ir.tensor(np.array(numbers, np.int64))})

    def call(
        self, domain: str, op_type: str, inputs: Sequence[ir.Value], *, overload: str = ""
    ) -> ir.Value:
        """Draw a call of the model-local function ``domain::op_type``."""
        node = ir.Node(domain, op_type, inputs, overload=overload)
        node.name = node.outputs[0].name = self._names.free(f"{self._prefix}{op_type}")
        self.nodes.append(node)
        return node.outputs[0]

    def copy(
        self, node: ir.Node, inputs: Sequence[ir.Value | None], *, name: str | None = None
    ) -> Sequence[ir.Value]:
        """Draw ``node`` once more, on other inputs; return its outputs, omitted ones included."""
        drawn = ir.node(
            node.op_type,
            inputs,
            attributes=node.attributes,
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=name or self._names.free(f"{self._prefix}{node.op_type}"),
        )
        for old, new in zip(node.outputs, drawn.outputs, strict=True):
            new.name = self._names.free(f"{self._prefix}{node.op_type}") if old.name else ""
        self.nodes.append(drawn)
        return drawn.outputs

    def copy_of(self, value: ir.Value) -> ir.Value:
        """Draw an `Identity` of ``value``, even if there is one."""
        return self._draw("Identity", [value], {})

    def result(self, value: ir.Value) -> ir.Value:
        """Return ``value`` if it was drawn here, or else draw an `Identity` of it."""
        return value if value.producer() in self.nodes else self.node("Identity", [value])

    def needed(self, results: Iterable[ir.Value]) -> Sequence[ir.Node]:
        """Return the drawn nodes that ``results`` depend on, in order.

        The others lose their inputs: as users, they would keep these from being swept.
        """
        wanted = set(results)
        kept: list[ir.Node] = []
        for node in reversed(self.nodes):
            if wanted.isdisjoint(node.outputs):
                release_inputs(node)
            else:
                wanted |= {value for value in node.inputs if value is not None}
                kept.append(node)
        return kept[::-1]

    def _draw(self, op_type: str, inputs: Any, attributes: dict[str, Any]) -> ir.Value:
        value = super()._draw(op_type, inputs, attributes)
        node = self.nodes[-1]
        node.name = value.name = self._names.free(f"{self._prefix}{op_type}")
        return value

    def _value(self, operand: ir.Value | float) -> ir.Value:
        if isinstance(operand, ir.Value) or self._constants is None:
            return super()._value(operand)
        number = np.array(operand, self._numpy)
        return self._constants.scalar(number, f"constant_{number.item():.6g}_{number.dtype.name}")
