"""The ``op`` that draws into a model: its constants are initializers, its names are free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gatewave.graphs.analysis.element_types import NAMES
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.graphs.rewrite.naming import Names

FIRST_WITH_INITIALIZERS = 4
"""Before this version of the file format each initializer was an input, which one could change."""


class Constants:
    """Scalars among the initializers of a model's graph, each there once."""

    def __init__(self, model: ir.Model, names: Names) -> None:
        self._graph = model.graph
        self._names = names
        self._made: dict[tuple[str, bytes], ir.Value] = {}
        self.are_initializers = (model.ir_version or 0) >= FIRST_WITH_INITIALIZERS

    def scalar(self, number: np.ndarray) -> ir.Value:
        key = (number.dtype.name, number.tobytes())
        if key not in self._made:
            name = self._names.free(f"constant_{number.item():.6g}_{number.dtype.name}")
            tensor = ir.tensor(number, name=name)
            value = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape([]), const_value=tensor
            )
            self._graph.register_initializer(value)
            self._made[key] = value
        return self._made[key]


class Drawing(GraphOps):
    """Draws the nodes that replace ``node``, and names them after it.

    For integers, constants are integers too; formulas with fractional constants are for floats
    only.
    """

    def __init__(
        self, node: ir.Node, kind: ir.DataType, opset: int, names: Names, constants: Constants
    ) -> None:
        super().__init__(NAMES.get(kind, "float32"), opset)
        if kind not in NAMES:
            self._numpy = kind.numpy()
        self.is_unsigned = kind.name.startswith("UINT")
        self._prefix = node.name or node.outputs[0].name or node.op_type
        self._names = names
        self._constants = constants

    def constant(self, number: float) -> ir.Value:
        return self._value(number)

    def again(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> Sequence[ir.Value]:
        """Draw ``node`` once more, on other inputs; give its outputs, those that it omits, too."""
        drawn = ir.node(
            node.op_type,
            inputs,
            attributes=node.attributes,
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=self._names.free(f"{self._prefix}/{node.op_type}"),
        )
        for old, new in zip(node.outputs, drawn.outputs, strict=True):
            new.name = self._names.free(f"{self._prefix}/{node.op_type}") if old.name else ""
        self.nodes.append(drawn)
        return drawn.outputs

    def _draw(self, op_type: str, inputs: Any, attributes: dict[str, Any]) -> ir.Value:
        value = super()._draw(op_type, inputs, attributes)
        node = self.nodes[-1]
        node.name = value.name = self._names.free(f"{self._prefix}/{op_type}")
        return value

    def _value(self, operand: ir.Value | float) -> ir.Value:
        if isinstance(operand, ir.Value) or not self._constants.are_initializers:
            return super()._value(operand)
        return self._constants.scalar(np.array(operand, self._numpy))
