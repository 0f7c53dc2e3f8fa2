"""Builder of small ONNX graphs with activations in any spelling."""

import numpy as np
import onnx_ir as ir

KINDS = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    "int64": ir.DataType.INT64,
}


class Drawing:
    """Namespace ``op`` with operators that add nodes; numbers become constants of the dtype.

    Constants are initializers, ``Constant`` nodes, or such nodes cast from float64, by ``style``.
    """

    def __init__(self, opset=18, dtype="float32", style="initializer", shape=("n", 4)):
        self.opset, self.dtype, self.style, self.shape = opset, dtype, style, shape
        self.inputs, self.nodes, self.initializers, self.outputs = [], [], [], []

    def input(self, name, shape=None, dtype=None):
        value = ir.Value(
            name=name,
            type=ir.TensorType(KINDS[dtype or self.dtype]),
            shape=ir.Shape(self.shape if shape is None else shape),
        )
        self.inputs.append(value)
        return value

    def __getattr__(self, op_type):
        if not op_type[0].isupper():
            raise AttributeError(op_type)
        return lambda *operands, **attributes: self.node(op_type, operands, **attributes)

    def node(self, op_type, operands, *, domain="", outputs=1, name=None, **attributes):
        values = [self.number(o) if isinstance(o, int | float) else o for o in operands]
        node = ir.node(
            op_type,
            values,
            attributes=attributes,
            domain=domain,
            num_outputs=outputs,
            name=name or f"{op_type}_{len(self.nodes)}",
        )
        for index, output in enumerate(node.outputs):
            output.name = f"{node.name}_out{index or ''}"
        self.nodes.append(node)
        return node.outputs[0] if outputs == 1 else node.outputs

    def number(self, number, dtype=None):
        kind = KINDS[dtype or self.dtype]
        if self.style == "cast":
            wide = self.node("Constant", [], value=ir.tensor(np.array(number, np.float64)))
            return self.node("Cast", [wide], to=kind.value)
        return self.tensor(np.array(number).astype(kind.numpy()))

    def tensor(self, array):
        label = f"constant_{len(self.nodes)}_{len(self.initializers)}"
        if self.style == "node":
            return self.node("Constant", [], value=ir.tensor(array, name=label))
        value = ir.Value(
            name=label, type=ir.TensorType(ir.tensor(array).dtype), shape=ir.Shape(array.shape)
        )
        value.const_value = ir.tensor(array, name=label)
        self.initializers.append(value)
        return value

    def cast(self, value, dtype):
        return self.node("Cast", [value], to=KINDS[dtype].value)

    def output(self, value, name=None, shape=None, dtype=None):
        value.name = name or value.name
        value.type = ir.TensorType(KINDS[dtype or self.dtype])
        value.shape = ir.Shape(self.shape if shape is None else shape)
        self.outputs.append(value)
        return value

    def graph(self):
        return ir.Graph(
            self.inputs,
            self.outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": self.opset},
            name="graph",
        )

    def model(self, functions=(), domains=(), ir_version=10):
        graph = self.graph()
        graph.opset_imports.update(dict.fromkeys(domains, 1))
        drawn = ir.Model(graph, ir_version=ir_version, functions=list(functions))
        return ir.from_proto(ir.to_proto(drawn))


def drawn(write, inputs=1, **options):
    """Return the model that ``write(op, *inputs)`` draws."""
    drawing = Drawing(**options)
    values = [drawing.input(name) for name in "xyz"[:inputs]]
    drawing.output(write(drawing, *values), "out")
    return drawing.model()


def shared_gate():
    """Return a model of two activations, ``x · σ(x)`` and ``y · σ(x)``, which share the gate."""
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "one")
    drawing.output(drawing.Mul(y, gate), "two")
    return drawing.model()
