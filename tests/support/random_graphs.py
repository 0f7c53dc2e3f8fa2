"""Random graphs that may or may not be row-wise, of nodes that ONNX Runtime accepts."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from rowwise import rows_of, session

ROWS = 5
"""Number of rows; other sizes are 2, 3, 4 and 6, which identifies the axis of rows by its size."""
OPSETS = (11, 13, 17)


class Grown:
    """Growing graph.

    Attributes:
        shapes: By name, the shape of each tensor for `ROWS` rows.
    """

    def __init__(self, seed):
        self.source = np.random.default_rng(seed)
        self.opset = int(self.source.choice(OPSETS))
        shape = [(4,), (3, 4), (2, 3, 4)][self.source.integers(3)]
        self.shapes = {"x": (ROWS, *shape)}
        self.nodes, self.constants = [], []

    def model(self, output, shape=None):
        """Return the part of the graph that computes ``output``."""
        needed, nodes = {output}, []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.insert(0, node)
                needed |= set(node.input)
        constants = [tensor for tensor in self.constants if tensor.name in needed]
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
            for name, sizes in (("x", ["n", *self.shapes["x"][1:]]), (output, shape))
        ]
        graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def grow(self):
        """Add an operator, unless ONNX Runtime rejects it."""
        nodes, constants = len(self.nodes), len(self.constants)
        name = self.pick()
        operator = OPERATORS[self.source.integers(len(OPERATORS))]
        try:
            made = operator(self, name, self.shapes[name])
            if made is None:
                return
            model = self.model(made)
            (result,) = session(model).run(None, rows_of(model, ROWS))
        except Exception:  # noqa: BLE001 - ONNX Runtime's refusals have no class in common
            del self.nodes[nodes:], self.constants[constants:]
            return
        if result.size <= 10_000:
            self.shapes[made] = result.shape

    def pick(self):
        """Choose a tensor, the latest more often than others."""
        names = list(self.shapes)
        return names[-1 - min(int(self.source.exponential(0.7)), len(names) - 1)]

    def axis(self, shape):
        axis = int(self.source.integers(len(shape)))
        return axis - len(shape) if self.source.random() < 0.3 else axis

    def node(self, operator, *inputs, outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0]

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def ints(self, *numbers):
        return self.constant(np.array(numbers, np.int64))

    def floats(self, *shape):
        return self.constant(self.source.normal(size=shape).astype(np.float32))

    def chance(self, share=0.5):
        return self.source.random() < share


def unary(g, x, _):
    return g.node(str(g.source.choice(["Relu", "Tanh", "Abs", "Neg", "Sigmoid", "Identity"])), x)


def binary(g, x, _):
    return g.node(str(g.source.choice(["Add", "Sub", "Mul", "Max"])), x, g.pick())


def constant_operand(g, x, shape):
    sizes = [size if g.chance() else 1 for size in shape[int(g.source.integers(len(shape) + 1)) :]]
    return g.node("Add", g.floats(*sizes), x)


def where(g, x, _):
    other = g.pick()
    return g.node("Where", g.node("Greater", x, g.constant(np.float32(2))), x, other)


def transpose(g, x, shape):
    return g.node("Transpose", x, perm=g.source.permutation(len(shape)).tolist())


def reduce(g, x, shape):
    name = str(g.source.choice(["ReduceMax", "ReduceMean", "ReduceMin"]))
    return g.node(name, x, axes=[g.axis(shape)], keepdims=int(g.chance()))


def normalise(g, x, shape):
    name = str(g.source.choice(["Softmax", "LayerNormalization"]))
    if name == "Softmax":
        return g.node(name, x, axis=g.axis(shape))
    axis = g.axis(shape)
    return g.node(name, x, g.floats(*shape[axis:]), axis=axis)


def reshape(g, x, shape):
    sizes = list(shape)
    at = int(g.source.integers(len(sizes)))
    if g.chance() and len(sizes) > 1:
        at = min(at, len(sizes) - 2)
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    elif sizes[at] % 2 == 0:
        sizes[at : at + 1] = [2, sizes[at] // 2]
    at = next((i for i, size in enumerate(sizes) if size % ROWS == 0), at)
    sizes[at] = -1
    if g.chance(0.3) and at < len(shape) and shape[at] == ROWS:
        sizes[at] = 0
    return g.node("Reshape", x, g.ints(*sizes))


def reshape_by_shape(g, x, shape):
    """Reshape to sizes that are computed from the shape of a tensor, possibly another one."""
    of = g.node("Shape", g.pick())
    place = g.ints(int(g.source.integers(len(shape))))
    rows = g.node("Gather", of, place)
    if g.chance(0.3):
        rows = g.node("Mul", rows, g.ints(2))
    rest = [g.ints(*((int(g.source.choice([2, 3, 4, 12])),) if g.chance() else ())), g.ints(-1)]
    parts = [rows, *rest]
    if g.chance(0.3):
        parts = [parts[i] for i in g.source.permutation(len(parts))]
    return g.node("Reshape", x, g.node("Concat", *parts, axis=0))


def flatten(g, x, shape):
    return g.node("Flatten", x, axis=int(g.source.integers(len(shape) + 1)))


def squeeze(g, x, shape):
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    if axes and g.chance():
        return _with_axes(g, "Squeeze", x, axes[:1])
    return _with_axes(g, "Unsqueeze", x, [int(g.source.integers(len(shape) + 1))])


def _with_axes(g, operator, x, axes):
    if g.opset < 13:
        return g.node(operator, x, axes=axes)
    return g.node(operator, x, g.ints(*axes))


def slices(g, x, shape):
    axis = g.axis(shape)
    start, end = (0, 2**40) if g.chance(0.3) else (int(g.source.integers(2)), 3)
    return g.node("Slice", x, g.ints(start), g.ints(end), g.ints(axis))


def gather(g, x, shape):
    axis = g.axis(shape)
    index = g.ints(*g.source.integers(-1, 1, 2)) if g.chance() else g.constant(np.int64(0))
    return g.node("Gather", x, index, axis=axis)


def concat(g, x, shape):
    return g.node("Concat", x, g.pick(), axis=g.axis(shape))


def split(g, x, shape):
    return g.node("Split", x, axis=g.axis(shape), outputs=2)


def matmul(g, x, shape):
    if g.chance(0.4):
        turned = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
        return g.node("MatMul", x, g.node("Transpose", g.pick(), perm=turned))
    if g.chance(0.3):
        return g.node("MatMul", g.floats(3, shape[-2]), x)
    return g.node("MatMul", x, g.floats(shape[-1], 3))


def gemm(g, x, shape):
    turn = g.chance()
    return g.node("Gemm", x, g.floats(shape[0] if turn else shape[1], 3), transA=int(turn))


def conv(g, x, shape):
    weights = g.floats(2, shape[1], *(1 if g.chance() else 3 for _ in shape[2:]))
    return g.node("Conv", x, weights, auto_pad="SAME_UPPER")


def pool(g, x, shape):
    if g.chance():
        return g.node("GlobalAveragePool", x)
    return g.node("MaxPool", x, kernel_shape=[2] * (len(shape) - 2))


def expand(g, x, shape):
    of = g.node("Shape", g.pick())
    extra = g.ints(2) if g.chance() else g.ints()
    sizes = g.node("Concat", extra, of, axis=0)
    return g.node("Expand", x if g.chance() else g.floats(*(1,) * len(shape)), sizes)


def tile(g, x, shape):
    return g.node("Tile", x, g.ints(*(2 if g.chance(0.3) else 1 for _ in shape)))


def pad(g, x, shape):
    return g.node("Pad", x, g.ints(*(int(g.chance(0.2)) for _ in (*shape, *shape))))


def cumulative(g, x, shape):
    return g.node("CumSum", x, g.constant(np.int64(g.axis(shape))))


def top(g, x, shape):
    return g.node("TopK", x, g.ints(1), axis=g.axis(shape), outputs=2)


def argmax(g, x, shape):
    return g.node("Cast", g.node("ArgMax", x, axis=g.axis(shape)), to=TensorProto.FLOAT)


def counted(g, x, shape):
    size = g.node("Gather", g.node("Shape", x), g.ints(g.axis(shape)))
    return g.node("Div", x, g.node("Cast", size, to=TensorProto.FLOAT))


def recurrent(g, x, shape):
    sequence, _, features = shape
    del sequence
    run = g.node("GRU", x, g.floats(1, 6, features), g.floats(1, 6, 2), hidden_size=2, outputs=2)
    return _with_axes(g, "Squeeze", run, [1])


def einsum(g, x, shape):
    letters = "abcd"[: len(shape)]
    summed = letters[int(g.source.integers(len(letters)))]
    result = letters.replace(summed, "z")
    return g.node(
        "Einsum",
        x,
        g.floats(shape[letters.index(summed)], 3),
        equation=f"{letters},{summed}z->{result}",
    )


OPERATORS = (
    *(unary, binary, constant_operand, where, transpose, transpose, reduce, normalise, reshape),
    *(reshape, reshape_by_shape, reshape_by_shape, flatten, squeeze, slices, gather, concat, split),
    *(matmul, matmul, gemm, conv, pool, expand, tile, pad, cumulative, top, argmax, counted),
    *(recurrent, einsum),
)
