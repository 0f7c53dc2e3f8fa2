"""Rules of products, convolutions, normalisations, pooling and recurrent operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gatewave.service.repository.rowwise.operands import Operands, Outcome, Rule, apart, from_start
from gatewave.service.repository.rowwise.values import (
    BATCH,
    ONE,
    Dims,
    Fresh,
    NotShown,
    Size,
    Value,
    broadcast,
    checked,
)

SUMS = "sums over the rows"
MATRIX = 2
HEADS = 4
"""Rank of tensors with an axis of heads."""


def matmul(node: Operands) -> Sequence[Outcome]:
    """Matrix product, as NumPy defines ``matmul``."""
    return [Value(_product(node.dims(0), node.dims(1), node.fresh))]


def matmul_integer(node: Operands) -> Sequence[Outcome]:
    """Matrix product of integers, with one zero point for each whole tensor."""
    node.plain(2, 3)
    return matmul(node)


def matmul_quantized(node: Operands) -> Sequence[Outcome]:
    """Matrix product of quantized tensors; only the weights may be quantized per column."""
    # The left scale and zero point may be vectors with an element for each row: those are rejected.
    node.plain(1, 2, 6, 7)
    node.fixed(4, 5)
    return [Value(_product(node.dims(0), node.dims(3), node.fresh))]


def _product(left: Dims, right: Dims, fresh: Fresh) -> Dims:
    """Return the shape of a matrix product, as NumPy's ``matmul`` has it."""
    if not left or not right:
        raise NotShown("multiplies a scalar")
    a = (ONE, *left) if len(left) == 1 else left
    b = (*right, ONE) if len(right) == 1 else right
    if a[-1].has_rows or b[-2].has_rows:
        raise NotShown(SUMS)
    if b[-1].has_rows:
        raise NotShown("has the rows as the columns of its right matrix")
    leading = broadcast([a[:-2], b[:-2]], fresh)
    rows = a[-2:-1] if len(left) > 1 else ()
    columns = b[-1:] if len(right) > 1 else ()
    return checked((*leading, *rows, *columns))


def gemm(node: Operands) -> Sequence[Outcome]:
    """Product of two matrices plus a broadcast matrix."""
    left, right = node.dims(0), node.dims(1)
    if len(left) != MATRIX or len(right) != MATRIX:
        raise NotShown("multiplies other than matrices")
    a = left[::-1] if node.integer("transA", 0) else left
    b = right[::-1] if node.integer("transB", 0) else right
    dims = _product(a, b, node.fresh)
    return [Value(broadcast([dims, node.dims(2)], node.fresh) if node.has(2) else dims)]


def fused_matmul(node: Operands) -> Sequence[Outcome]:
    """Matrix product with transposed operands."""
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        raise NotShown("transposes its batches")
    left = _turned(node.dims(0), node.integer("transA", 0))
    return [Value(_product(left, _turned(node.dims(1), node.integer("transB", 0)), node.fresh))]


def _turned(dims: Dims, turn: int) -> Dims:
    """Return a shape with its last two axes exchanged, if ``turn`` is set."""
    return (*dims[:-2], dims[-1], dims[-2]) if turn and len(dims) > 1 else dims


def einsum(node: Operands) -> Sequence[Outcome]:
    """Sums of products; the letter of the rows is in each batched operand and in the result."""
    terms, arrow, result = node.text("equation").replace(" ", "").partition("->")
    letters = terms.split(",")
    if not arrow or "." in terms or len(letters) != len(node.values):
        raise NotShown("has an equation without a result, or with an ellipsis")
    named: dict[str, set[Size]] = {}
    for i, term in enumerate(letters):
        dims = node.dims(i)
        if len(term) != len(dims) or len(set(term)) != len(term):
            raise NotShown("has an equation that takes diagonals")
        for letter, size in zip(term, dims, strict=True):
            named.setdefault(letter, set()).add(size)
    for letter, sizes in named.items():
        batched = any(size.has_rows for size in sizes)
        if batched and (len(sizes) > 1 or result.count(letter) != 1):
            raise NotShown(SUMS)
    try:
        dims = tuple(_one_of(named[letter], node.fresh) for letter in result)
    except KeyError as error:
        raise NotShown("has an equation with an unknown letter") from error
    return [Value(checked(dims))]


def _one_of(sizes: set[Size], fresh: Fresh) -> Size:
    """Return the size of a letter; a new symbol if operands differ, since 1 broadcasts."""
    return next(iter(sizes)) if len(sizes) == 1 else fresh()


def conv(node: Operands) -> Sequence[Outcome]:
    """Convolution of each sample."""
    node.fixed(1, 2)
    return _convolved(node, node.dims(1))


def conv_quantized(node: Operands) -> Sequence[Outcome]:
    """Convolution of quantized tensors; only the weights may be quantized per channel."""
    node.plain(1, 2, 6, 7)
    node.fixed(3, 4, 5, 8)
    return _convolved(node, node.dims(3))


def conv_integer(node: Operands) -> Sequence[Outcome]:
    """Convolution of integers."""
    node.plain(2)
    node.fixed(1, 3)
    return _convolved(node, node.dims(1))


def conv_transpose(node: Operands) -> Sequence[Outcome]:
    """Transposed convolution of each sample."""
    node.fixed(1, 2)
    dims, weights = node.dims(0), node.dims(1)
    first(node)
    channels = weights[1].times(Size(node.integer("group", 1)))
    return [Value((dims[0], channels, *(node.fresh() for _ in dims[2:])))]


def _convolved(node: Operands, weights: Dims) -> Sequence[Outcome]:
    """Return the result of a convolution with weights of the shape ``weights``."""
    first(node)
    kernel = node.list("kernel_shape") or tuple(size.number or 0 for size in weights[2:])
    dims = node.dims()
    return [Value((dims[0], weights[0], *_windows(node, dims[2:], kernel)))]


def first(node: Operands) -> None:
    """Check that the batch axis is the first axis, if there is one.

    Raises:
        NotShown: The batch axis is another axis.
    """
    if node.value().axis not in {None, 0}:
        raise NotShown("has the rows along another axis than the first")


def pool(node: Operands) -> Sequence[Outcome]:
    """Pooling over windows in space."""
    value, dims = node.value(), node.dims()
    apart(value, *range(2, len(dims)))
    kernel = node.list("kernel_shape") or ()
    pooled = Value((*dims[:2], *_windows(node, dims[2:], kernel)))
    # Indices count through the whole tensor, including preceding rows.
    return [pooled, NotShown("counts places through all rows")]


def global_pool(node: Operands) -> Sequence[Outcome]:
    """Pooling over all of space."""
    value, dims = node.value(), node.dims()
    apart(value, *range(2, len(dims)))
    return [Value((*dims[:2], *(ONE,) * (len(dims) - 2)))]


def _windows(node: Operands, sizes: Dims, kernel: Sequence[int]) -> Iterator[Size]:
    """Yield the spatial sizes after a convolution or pooling, as symbols if they are unknown."""
    count = len(sizes)
    strides = node.list("strides") or (1,) * count
    dilations = node.list("dilations") or (1,) * count
    pads = node.list("pads") or (0,) * 2 * count
    plain = node.text("auto_pad", "NOTSET") == "NOTSET" and not node.integer("ceil_mode", 0)
    if not plain or {len(kernel), len(strides), len(dilations)} != {count}:
        yield from (node.fresh() for _ in sizes)
        return
    for i, size in enumerate(sizes):
        room = (size.number or 0) + pads[i] + pads[i + count] - dilations[i] * (kernel[i] - 1) - 1
        known = size.number is not None and kernel[i] > 0 and strides[i] > 0 and room >= 0
        yield Size(room // strides[i] + 1) if known else node.fresh()


def batch_normalization(node: Operands) -> Sequence[Outcome]:
    """Affine map of each channel; in training mode, with the mean over the rows."""
    trains = node.integer("training_mode", 0) or (node.opset < 14 and node.outputs > 1)  # noqa: PLR2004
    if node.opset < 7 or trains:  # noqa: PLR2004 - before, an attribute says whether it trains
        raise NotShown("may take the mean over the rows")
    node.fixed(1, 2, 3, 4)
    apart(node.value(), 1)
    if not node.integer("spatial", 1):  # until opset 8: parameters for each place, too
        first(node)
    return [Value(node.dims())]


def per_sample(node: Operands) -> Sequence[Outcome]:
    """Normalisation of each sample and channel; the batch is the first axis."""
    node.fixed(*range(1, len(node.values)))
    first(node)
    return [Value(node.dims())]


def layer_normalization(node: Operands) -> Sequence[Outcome]:
    """Normalisation over the axes from ``axis`` on; scale and bias broadcast."""
    dims = node.dims()
    axis = from_start(node.integer("axis", -1), len(dims))
    apart(node.value(), *range(axis, len(dims)), why="normalises over the rows")
    node.fixed(1, 2)
    shapes = [node.dims(i) for i in range(len(node.values)) if node.has(i)]
    if len(broadcast(shapes, node.fresh)) != len(dims):
        raise NotShown("broadcasts its input")
    statistics = Value((*dims[:axis], *(ONE,) * (len(dims) - axis)))
    return [Value(dims), statistics, statistics]


def skip_normalization(node: Operands) -> Sequence[Outcome]:
    """Sum with a residual, normalised over the last axis; the sum is the fourth output."""
    dims = broadcast([node.dims(0), node.dims(1)], node.fresh)
    result = Value(dims)
    apart(result, len(dims) - 1, why="normalises over the rows")
    node.fixed(*range(2, len(node.values)))
    unused = NotShown("has statistics that no rule describes")
    return [result, unused, unused, result]


def lp_normalization(node: Operands) -> Sequence[Outcome]:
    """Normalisation by the p-norm along one axis."""
    axis = from_start(node.integer("axis", -1), len(node.dims()))
    apart(node.value(), axis, why="normalises over the rows")
    return [Value(node.dims())]


def mean_variance(node: Operands) -> Sequence[Outcome]:
    """Normalisation to mean 0 and variance 1 over axes; by default over the batch axis too."""
    rank = len(node.dims())
    axes = node.list("axes") or (0, 2, 3)
    counted = [from_start(axis, rank) for axis in axes]
    apart(node.value(), *counted, why="normalises over the rows")
    return [Value(node.dims())]


def lrn(node: Operands) -> Sequence[Outcome]:
    """Local response normalisation across channels, the second axis."""
    apart(node.value(), 1)
    return [Value(node.dims())]


def recurrent(node: Operands) -> Sequence[Outcome]:
    """LSTM, GRU and RNN; the batch is the second axis, and the first axis of the lengths."""
    # Layout 1 exchanges the first two axes, and has no rule here.
    if node.integer("layout", 0):
        raise NotShown("has its layout turned")
    node.fixed(1, 2, 3, 7)
    if node.value(0).axis != 1:
        raise NotShown("has the rows along another axis than the second")
    for index, axis in ((4, 0), (5, 1), (6, 1)):
        if node.has(index) and node.value(index).axis != axis:
            raise NotShown("starts from states that do not belong to the rows")
    sequence, batch, *_ = node.dims()
    for index in (4, 5, 6):
        if node.has(index) and batch not in node.dims(index):
            raise NotShown("starts from states that do not belong to the rows")
    directions, hidden = node.dims(1)[0], node.dims(2)[-1]
    state = Value((directions, batch, hidden))
    return [Value((sequence, directions, batch, hidden)), state, state]


def attention(node: Operands) -> Sequence[Outcome]:
    """Softmax(q·kᵀ + mask)·v of each sample, without a state of earlier calls."""
    if any(node.has(index) for index in range(4, len(node.values))) or node.outputs > 1:
        raise NotShown("keeps a state")
    query = node.dims(0)
    if query[0] != BATCH or any(node.dims(i)[0] != BATCH for i in (1, 2)):
        raise NotShown("has the rows along another axis than the first")
    if node.has(3):
        # A mask broadcasts to samples, heads, queries and keys.
        padded = (ONE,) * (HEADS - len(node.dims(3))) + node.dims(3)
        if padded[0] not in {ONE, BATCH} or any(size.has_rows for size in padded[1:]):
            raise NotShown("has a mask that may belong to other rows")
    return [Value((*query[:-1], _head(node, query)))]


def _head(node: Operands, query: Dims) -> Size:
    """Return the last size of the result: that of the values, if each query head has its own."""
    shared = node.integer("q_num_heads", 0) != node.integer("kv_num_heads", 0)
    return node.fresh() if len(query) != HEADS and shared else node.dims(2)[-1]


RULES: Mapping[str, Rule] = {
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
    "QLinearMatMul": matmul_quantized,
    "Gemm": gemm,
    "Einsum": einsum,
    "Conv": conv,
    "ConvInteger": conv_integer,
    "QLinearConv": conv_quantized,
    "ConvTranspose": conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), global_pool),
    "BatchNormalization": batch_normalization,
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), per_sample),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_normalization),
    "SimplifiedLayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance,
    "LRN": lrn,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), recurrent),
    "Attention": attention,
}
MICROSOFT: Mapping[str, Rule] = {
    "FusedMatMul": fused_matmul,
    **dict.fromkeys(
        ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), skip_normalization
    ),
}
