"""Lower bounds on the rank of values whose shape is not known.

ONNX's inference leaves a shape open if it cannot compute it, for example after a `Reshape` to a
computed shape. Operators still bound the rank from below: those that make the value, and those that
take it, as no valid model has a convolution of a scalar.

Only lower bounds are kept: they decide whether a constant of shape ``[1]`` may add an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import onnx_ir as ir

from gatewave.graphs.analysis.node_functions import CONTRIB
from gatewave.graphs.analysis.numpy_ops import ContribOps, NumpyOps
from gatewave.graphs.analysis.scopes import Scope

ShapeOf = Callable[[ir.Value], ir.Shape | None]
IntegersOf = Callable[[ir.Value | None], list[int] | None]

ELEMENTWISE = {name for name in dir(NumpyOps) if name[0].isupper()} | {
    "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mean", "PRelu", "Shrink",
}  # fmt: skip
"""Operators that broadcast: the result has at least the axes of each operand."""

LIKE_FIRST = {
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan", "IsInf", "IsNaN",
    "BitwiseNot", "Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization",
    "GroupNormalization", "InstanceNormalization", "BatchNormalization", "LRN",
    "LpNormalization", "MeanVarianceNormalization", "Dropout", "Pad", "Slice", "Tile", "Resize",
    "Upsample", "CumSum", "Trilu", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
    "Split", "TopK", "GatherElements", "ScatterElements", "Scatter", "ScatterND",
    "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool",
    "ReverseSequence", "Bernoulli", "RandomNormalLike", "RandomUniformLike", "EyeLike",
    "Attention", "RotaryEmbedding", "CastLike",
}  # fmt: skip
"""Operators whose first result has the axes of their first operand."""

CONTRIB_LIKE_FIRST = {
    "BiasAdd", "BiasGelu", "BiasSplitGelu", "BiasDropout", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearAveragePool",
    "QLinearGlobalAveragePool", "QuantizeLinear", "DequantizeLinear", "GroupNorm", "SkipGroupNorm",
    "RotaryEmbedding", "MatMulNBits", *(name for name in vars(ContribOps) if name[0].isupper()),
}  # fmt: skip

REDUCING = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin",
}  # fmt: skip

FIXED = {
    "Gemm": 2, "Flatten": 2, "NonZero": 2, "NonMaxSuppression": 2, "Range": 1, "Shape": 1,
    "Compress": 1, "DepthToSpace": 4, "SpaceToDepth": 4, "GridSample": 4, "LSTM": 4, "GRU": 4,
    "RNN": 4, "Unique": 1,
}  # fmt: skip
"""Operators whose first result has at least this many axes for any inputs."""

CONVOLVING = {"Conv", "ConvTranspose", "ConvInteger", "FusedConv", "DeformConv"}
PICTURES = 3
"""A batch, channels and one axis more: the least that pools and convolutions take."""

WANTED = {
    "Gemm": 2, "LSTM": 3, "GRU": 3, "RNN": 3, "DepthToSpace": 4, "SpaceToDepth": 4, "LRN": PICTURES,
    "InstanceNormalization": PICTURES, "GlobalAveragePool": PICTURES, "GlobalMaxPool": PICTURES,
    "GlobalLpPool": PICTURES, "MaxPool": PICTURES, "AveragePool": PICTURES, "LpPool": PICTURES,
    "MatMul": 1, "MatMulInteger": 1, "LayerNormalization": 1, "RMSNormalization": 1,
    "BatchNormalization": 1,
}  # fmt: skip
"""Least rank of the first operand of a valid node."""

WITH_AXIS = {
    "Concat", "Split", "Gather", "GatherElements", "ScatterElements", "TopK", "ArgMax", "ArgMin",
    "LayerNormalization", "RMSNormalization",
}  # fmt: skip
"""Operators whose ``axis`` is one of their first operand's."""


class Ranks:
    """Least ranks of the values of a model, derived from its operators."""

    def __init__(self, shape_of: ShapeOf, integers_of: IntegersOf) -> None:
        self._shape_of, self.integers_of = shape_of, integers_of
        self._least: dict[ir.Value, int] = {}

    def least(self, value: ir.Value | None) -> int:
        """The number of axes that ``value`` has at least: all of them, if its shape is known."""
        if value is None:
            return 0
        if value not in self._least:
            shape = self._shape_of(value)
            self._least[value] = 0 if shape is None else len(shape)
        return self._least[value]

    def bound(self, scopes: Iterable[Scope]) -> None:
        """Follow the operators of all ``scopes``: forwards, backwards, and forwards again."""
        open_ones = [nodes for scope in scopes if (nodes := self._open(scope))]
        # Twice: an operand's rank that follows from one operator may give another node its own.
        for _ in range(2):
            for nodes in open_ones:
                for node in nodes:
                    self._forwards(node)
                for node in reversed(nodes):
                    self._backwards(node)
        for nodes in open_ones:
            for node in nodes:
                self._forwards(node)

    def _open(self, scope: Scope) -> list[ir.Node]:
        """Return the nodes that make or take a value of unknown shape."""
        values = {v for node in scope.graph for v in node.outputs if self._shape_of(v) is None}
        values |= {value for value in scope.graph.inputs if self._shape_of(value) is None}
        return [
            node
            for node in scope.graph
            if not values.isdisjoint(node.outputs) or not values.isdisjoint(node.inputs)
        ]

    def _raise(self, value: ir.Value | None, rank: int) -> None:
        if value is not None and self._shape_of(value) is None and rank > self.least(value):
            self._least[value] = rank

    def _forwards(self, node: ir.Node) -> None:
        if not node.outputs:
            return
        rank = self._made(node)
        self._raise(node.outputs[0], rank)
        if node.domain == "" and node.op_type == "Split":
            for part in node.outputs[1:]:
                self._raise(part, rank)

    def _made(self, node: ir.Node) -> int:
        """Return the least rank of the node's first output, by its operator."""
        first = self.least(node.inputs[0]) if node.inputs else 0
        if node.op_type in CONVOLVING and node.domain in {"", CONTRIB}:
            return max(PICTURES, first, self._of_weight(node))
        if node.domain != "":
            like_first = node.domain == CONTRIB and node.op_type in CONTRIB_LIKE_FIRST
            return first if like_first else 0
        if node.op_type in {*ELEMENTWISE, "Concat"}:
            return max(map(self.least, node.inputs), default=0)
        rule = _RULES.get(node.op_type, _fixed)
        return max(0, rule(self, node, first))

    def _of_weight(self, node: ir.Node) -> int:
        """Return the rank of the weights, which is that of a convolution's operand."""
        return self.least(node.inputs[1]) if len(node.inputs) > 1 else 0

    def length(self, node: ir.Node, index: int) -> int:
        """Return the length of the shape tensor that a node is given."""
        value = node.inputs[index] if len(node.inputs) > index else None
        shape = None if value is None else self._shape_of(value)
        if shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            return shape[0]
        sizes = self.integers_of(value)
        return 0 if sizes is None else len(sizes)

    def _backwards(self, node: ir.Node) -> None:
        """Apply the ranks that a valid node requires of its operands."""
        if not node.inputs:
            return
        if node.op_type in CONVOLVING and node.domain in {"", CONTRIB}:
            self._ask(node, 0, max(PICTURES, self._of_weight(node)))
        if node.domain != "":
            return
        self._ask(node, 0, _wanted(node))
        result = self.least(node.outputs[0]) if node.outputs else 0
        if node.op_type == "Concat":
            for index in range(len(node.inputs)):
                self._ask(node, index, result)
        elif node.op_type in LIKE_FIRST:
            self._ask(node, 0, result)
        elif node.op_type in ELEMENTWISE:
            self._ask_the_widest(node, result)

    def _ask(self, node: ir.Node, index: int, rank: int) -> None:
        """Raise the bound for values of the same graph only: a body of an If may never run."""
        value = node.inputs[index]
        if value is not None and value.graph is node.graph:
            self._raise(value, rank)

    def _ask_the_widest(self, node: ir.Node, rank: int) -> None:
        """Give the result's rank to one operand, if all others are known to have fewer axes."""
        given = {value for value in node.inputs if value is not None}
        open_ones = [value for value in given if self._shape_of(value) is None]
        known = [self.least(value) for value in given if value not in open_ones]
        if len(open_ones) == 1 and rank > max(known, default=0):
            self._ask(node, node.inputs.index(open_ones[0]), rank)


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref() or attribute.type != ir.AttributeType.INT:
        return default
    return attribute.as_int()


def _axes(node: ir.Node, integers_of: IntegersOf) -> Sequence[int]:
    """Return the axes from the attribute or the second input; empty if they are not known."""
    attribute = node.attributes.get("axes")
    if attribute is not None and not attribute.is_ref():
        return attribute.as_ints()
    given = node.inputs[1] if len(node.inputs) > 1 else None
    return integers_of(given) or ()


def _wanted(node: ir.Node) -> int:
    """Return the least rank of the first operand for which the operator is valid."""
    wanted = WANTED.get(node.op_type, 0)
    for name, more in (("kernel_shape", 2), ("perm", 0)):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.type == ir.AttributeType.INTS:
            wanted = max(wanted, 0 if attribute.is_ref() else len(attribute.as_ints()) + more)
    if node.op_type in WITH_AXIS and "axis" in node.attributes:
        axis = _integer(node, "axis", 0)
        wanted = max(wanted, axis + 1 if axis >= 0 else -axis)
    return wanted


def _fixed(_: Ranks, node: ir.Node, first: int) -> int:
    if node.op_type in LIKE_FIRST:
        return max(first, WANTED.get(node.op_type, 0))
    return FIXED.get(node.op_type, 0)


def _matmul(ranks: Ranks, node: ir.Node, first: int) -> int:
    """A vector as an operand takes an axis away."""
    second = ranks.least(node.inputs[1]) if len(node.inputs) > 1 else 0
    # As NumPy's matmul: a vector's axis is contracted away and does not come back.
    both = min(first, second) > 1
    return max(first, second) - (0 if both else 1)


def _reduced(ranks: Ranks, node: ir.Node, first: int) -> int:
    if _integer(node, "keepdims", 1) == 1:
        return first
    if node.op_type in {"ArgMax", "ArgMin"}:
        return first - 1
    axes = _axes(node, ranks.integers_of)
    return first - len(axes) if axes else 0


def _transpose(_: Ranks, node: ir.Node, first: int) -> int:
    perm = node.attributes.get("perm")
    return first if perm is None or perm.is_ref() else len(perm.as_ints())


def _squeeze(ranks: Ranks, node: ir.Node, first: int) -> int:
    axes = _axes(node, ranks.integers_of)
    return first - len(axes) if axes else 0


def _unsqueeze(ranks: Ranks, node: ir.Node, first: int) -> int:
    added = len(_axes(node, ranks.integers_of)) or ranks.length(node, 1)
    return first + added


def _reshape(ranks: Ranks, node: ir.Node, _: int) -> int:
    attribute = node.attributes.get("shape")  # before opset 5
    if attribute is not None and not attribute.is_ref():
        return len(attribute.as_ints())
    return ranks.length(node, 1)


def _gather(ranks: Ranks, node: ir.Node, first: int) -> int:
    indices = ranks.least(node.inputs[1]) if len(node.inputs) > 1 else 0
    return max(1, first) + indices - 1


_RULES: Mapping[str, Callable[[Ranks, ir.Node, int], int]] = {
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Expand": lambda ranks, node, first: max(first, ranks.length(node, 1)),
    "ConstantOfShape": lambda ranks, node, _: ranks.length(node, 0),
    "Gather": _gather,
    **dict.fromkeys(REDUCING, _reduced),
    "OneHot": lambda _ranks, _node, first: first + 1,
}
"""Least ranks of the results of other operators."""
