"""Drawing of decompositions as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS, DType

ONNX_TYPES: dict[DType, ir.DataType] = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
}


def compute_dtype(dtype: DType) -> DType:
    """Return the dtype of the computation: float32 for 16-bit floats, which are rounded once."""
    return "float64" if dtype == "float64" else "float32"


def dtype_of(value: ir.Value) -> DType:
    """The dtype of a floating tensor.

    Raises:
        TypeError: The element type is not supported or not known.
    """
    for dtype, onnx_type in ONNX_TYPES.items():
        if onnx_type == value.dtype:
            return dtype
    raise TypeError(f"{value.name}: expected one of {', '.join(ONNX_TYPES)}, not {value.dtype}")


class GraphOps:
    """An ``op`` that adds nodes to a graph; equal nodes on equal inputs are drawn once.

    Operands may be numbers: they become constants of the compute dtype.
    """

    def __init__(self, dtype: DType, opset: int) -> None:
        self.nodes: list[ir.Node] = []
        self.dtype = compute_dtype(dtype)
        self.opset = opset
        self.precision_bits = FLOAT64_BITS if self.dtype == "float64" else FLOAT32_BITS
        self._numpy = np.dtype(self.dtype)
        self._drawn: dict[tuple[Any, ...], ir.Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        return lambda *operands: self.node(op_type, [self._value(o) for o in operands])

    def node(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        key = (op_type, *(id(i) for i in inputs), *attributes.items())
        if key not in self._drawn:
            self._drawn[key] = self._draw(op_type, inputs, attributes)
        return self._drawn[key]

    def _draw(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any]
    ) -> ir.Value:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        node = ir.node(op_type, inputs, attributes=attributes, name=name)
        node.outputs[0].name = name
        self.nodes.append(node)
        return node.outputs[0]

    def _value(self, operand: ir.Value | float) -> ir.Value:
        if isinstance(operand, ir.Value):
            return operand
        key = ("Constant", float(operand).hex())  # unlike ==, it tells -0.0 from 0.0
        if key not in self._drawn:
            tensor = ir.tensor(np.array(operand, self._numpy))
            self._drawn[key] = self._draw("Constant", [], {"value": tensor})
        return self._drawn[key]

    def splice(
        self,
        model: ir.Model,
        operands: Sequence[ir.Value],
        outputs: slice = slice(None),
    ) -> list[ir.Value]:
        """Draw the nodes of an exported model that its ``outputs`` need, on ``operands``."""
        flat = model.clone()
        passes.InlinePass()(flat)
        flat.graph.outputs[:] = flat.graph.outputs[outputs]
        passes.RemoveUnusedNodesPass()(flat)
        self.opset = max(self.opset, flat.opset_imports[""])
        known = dict(zip(flat.graph.inputs, operands, strict=True))
        for value in flat.graph.initializers.values():
            known[value] = self._draw("Constant", [], {"value": value.const_value})
        for node in flat.graph:
            known |= zip(node.outputs, self._redrawn(node, known).outputs, strict=True)
        return [known[value] for value in flat.graph.outputs]

    def _redrawn(self, node: ir.Node, known: Mapping[ir.Value, ir.Value]) -> ir.Node:
        name = f"{node.op_type.lower()}_{len(self.nodes)}"
        drawn = ir.node(
            node.op_type,
            [None if value is None else known[value] for value in node.inputs],
            attributes=node.attributes,
            num_outputs=len(node.outputs),
            name=name,
        )
        for index, output in enumerate(drawn.outputs):
            output.name = f"{name}_{index}"
        self.nodes.append(drawn)
        return drawn
