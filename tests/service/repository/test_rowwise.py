"""Graphs that are shown to be row-wise: they are."""

# ruff: noqa: E501 - graphs are read best in one line

import numpy as np
import pytest
from random_graphs import ROWS, Grown
from rowwise import (
    FILTERS,
    IMAGES,
    ONE,
    SOURCE,
    TENSOR,
    ZERO,
    W,
    case,
    differing_rows,
    graph,
    ints,
    weights,
)

from gatewave.service.repository.rowwise.analysis import unshown, unshown_in

SHOWN = [
    case("unary", "y = Tanh(x)"),
    case("constant", "c = Constant<value = float {2.0}>() y = Mul(x, c)"),
    case("vector", "y = Add(x, b)", constants=weights(b=4)),
    case("one row", "y = Add(x, b)", constants=weights(b=(1, 4))),
    case(
        "larger rank",
        "z = Add(x, b) y = Squeeze(z, a)",
        constants={**weights(b=(1, 1, 4)), "a": ints(0)},
    ),
    case("where", "c = Less(x, z) y = Where(c, x, z)", constants={"z": ZERO}),
    case("clip", "y = Clip(x, z, o)", constants={"z": ZERO, "o": ONE}),
    case("clip 6", "y = Clip<min = 0.0, max = 1.0>(x)", opset=9),
    case("two inputs", "y = Sub(x, z)", inputs="float[n,4] x, float[n,1] z"),
    case("own maximum", "m = ReduceMax<axes=[1]>(x) y = Sub(x, m)"),
    case(
        "own branch",
        "m = ReduceMax<axes=[1]>(x) c = Greater(m, o) z = Mul(x, k) y = Where(c, z, x)",
        constants={"o": ONE, "k": np.float32(0.1)},
    ),
    case("matmul", "y = MatMul(x, w)", constants={"w": W}),
    case(
        "matmul of a vector",
        "z = MatMul(x, w) y = Unsqueeze(z, a)",
        constants={**weights(w=4), "a": ints(1)},
    ),
    case("matmul of many", "y = MatMul(x, w)", inputs=TENSOR, constants=weights(w=(4, 2))),
    case("matmul of rows", "t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t)", inputs=TENSOR),
    case("matmul from the left", "y = MatMul(w, x)", inputs=TENSOR, constants=weights(w=(5, 3))),
    case("gemm", "y = Gemm<transB=1>(x, w, b)", constants=weights(w=(3, 4), b=3)),
    case("gemm turned", "t = Transpose(x) y = Gemm<transA=1>(t, w)", constants={"w": W}),
    case("einsum", 'y = Einsum<equation="nij,jk->nik">(x, w)', inputs=TENSOR, constants={"w": W}),
    case("einsum of rows", 'y = Einsum<equation="nij,nkj->nik">(x, x)', inputs=TENSOR),
    case("conv", "y = Conv<pads=[1,1,1,1]>(x, f)", inputs=IMAGES, constants={"f": FILTERS}),
    case(
        "conv and flatten",
        "c = Conv(x, f) r = Relu(c) h = Flatten(r) y = MatMul(h, w)",
        inputs=IMAGES,
        constants={"f": FILTERS, **weights(w=(32, 2))},
    ),
    case(
        "conv and reshape",
        "c = Conv<strides=[2,2]>(x, f) p = MaxPool<kernel_shape=[2,2]>(c) y = Reshape(p, s)",
        inputs=IMAGES,
        constants={"f": FILTERS, "s": ints(-1, 2)},
    ),
    case("global pool", "p = GlobalAveragePool(x) y = Flatten(p)", inputs=IMAGES),
    case(
        "average pool",
        "y = AveragePool<kernel_shape=[2,2], ceil_mode=1>(x)",
        inputs="float[n,3,h,w] x",
    ),
    case(
        "batch norm",
        "y = BatchNormalization(x, a, a, b, v)",
        inputs=IMAGES,
        constants={**weights(a=3, b=3), "v": np.ones(3, np.float32)},
    ),
    case(
        "instance norm",
        "y = InstanceNormalization(x, a, b)",
        inputs=IMAGES,
        constants=weights(a=3, b=3),
    ),
    case(
        "layer norm",
        "y = LayerNormalization<axis=-1>(x, a, b)",
        inputs=TENSOR,
        constants=weights(a=4, b=4),
    ),
    case("lp norm", "y = LpNormalization<axis=1>(x)"),
    case("lrn", "y = LRN<size=3>(x)", inputs=IMAGES),
    case("softmax", "y = Softmax(x)"),
    case("softmax 11", "y = Softmax<axis=1>(x)", opset=11, inputs=TENSOR),
    case("softmax 13", "y = Softmax<axis=1>(x)", inputs=TENSOR),
    case("softmax of a moved axis", "t = Transpose(x) s = Softmax<axis=0>(t) y = Transpose(s)"),
    case(
        "reduce 18",
        "y = ReduceMean<keepdims=0>(x, a)",
        opset=18,
        inputs=TENSOR,
        constants={"a": ints(-1)},
    ),
    case("reduce nothing", "y = ReduceSum<noop_with_empty_axes=1>(x)"),
    case("argmax", "i = ArgMax<axis=1>(x) y = Cast<to=1>(i)"),
    case("cumsum", "y = CumSum(x, a)", constants={"a": np.int64(1)}),
    case("top", "y, i = TopK(x, k)", constants={"k": ints(2)}),
    case(
        "transpose",
        "t = Transpose<perm=[2,0,1]>(x) u = Relu(t) y = Transpose<perm=[1,2,0]>(u)",
        inputs=TENSOR,
    ),
    case("reshape copies", "y = Reshape(x, s)", inputs=TENSOR, constants={"s": ints(0, -1)}),
    case("reshape rest", "y = Reshape(x, s)", inputs=TENSOR, constants={"s": ints(-1, 12)}),
    case(
        "reshape open",
        "y = Reshape(x, s)",
        inputs="float[n,k,4] x",
        constants={"s": ints(0, 2, -1)},
    ),
    case(
        "reshape by shape",
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, k) y = Reshape(x, t)",
        inputs="float[n,k,4] x",
        constants={"k": ints(-1)},
    ),
    case(
        "reshape by gather",
        "s = Shape(x) i = Gather(s, z) u = Unsqueeze(i, a) t = Concat<axis=0>(u, k) y = Reshape(x, t)",
        inputs=TENSOR,
        constants={"z": np.int64(0), "a": ints(0), "k": ints(2, 6)},
    ),
    case(
        "reshape by slice",
        "s = Shape(x) i = Slice(s, z, o) t = Concat<axis=0>(i, k) y = Reshape(x, t)",
        inputs=TENSOR,
        constants={"z": ints(0), "o": ints(1), "k": ints(12)},
    ),
    case(
        "heads merged",
        "t = Transpose<perm=[1,0,2]>(x) s = Shape<start=1, end=2>(t) d = Mul(s, e) r = Concat<axis=0>(k, d, f) h = Reshape(t, r) u = Transpose<perm=[1,0,2]>(h) p = Softmax(u) v = Transpose<perm=[1,0,2]>(p) q = Concat<axis=0>(k, s, g) w = Reshape(v, q) y = Transpose<perm=[1,0,2]>(w)",
        inputs=TENSOR,
        constants={"e": ints(2), "k": ints(3), "f": ints(2), "g": ints(4)},
    ),
    case(
        "sequence merged",
        "t = Transpose<perm=[1,0,2]>(x) m = Reshape(t, r) h = MatMul(m, w) s = Shape<start=1, end=2>(t) q = Concat<axis=0>(k, s, g) b = Reshape(h, q) y = Transpose<perm=[1,0,2]>(b)",
        inputs=TENSOR,
        constants={"r": ints(-1, 4), "w": W, "k": ints(3), "g": ints(3)},
    ),
    case(
        "pixels merged",
        "t = Transpose<perm=[0,2,3,1]>(x) m = Reshape(t, r) h = MatMul(m, w) y = Reshape(h, q)",
        inputs=IMAGES,
        constants={"r": ints(-1, 3), **weights(w=(3, 2)), "q": ints(-1, 36, 2)},
    ),
    case("flatten", "y = Flatten(x)", inputs=TENSOR),
    case("squeeze 11", "u = Unsqueeze<axes=[0]>(x) y = Squeeze<axes=[0]>(u)", opset=11),
    case(
        "squeeze 13", "u = Unsqueeze(x, a) r = Relu(u) y = Squeeze(r, a)", constants={"a": ints(1)}
    ),
    case(
        "expand token",
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, k) c = Expand(token, t) y = Concat<axis=1>(c, x)",
        inputs=TENSOR,
        constants={**weights(token=(1, 1, 4)), "k": ints(1, 4)},
    ),
    case(
        "expand marked",
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, k) c = Equal(t, m) e = Where(c, o, t) y = Expand(x, e)",
        inputs="float[n,1] x",
        constants={"k": ints(-1), "m": ints(-1), "o": ints(1, 5)},
    ),
    case("zeros", "s = Shape(x) z = ConstantOfShape(s) y = Add(z, x)"),
    case("concat", "z = Neg(x) y = Concat<axis=1>(x, z)"),
    case("split", "a, b = Split<axis=1>(x) y = Mul(a, b)"),
    case(
        "split 13",
        "a, b = Split<axis=-1>(x, s) y = Mul(a, b)",
        inputs=TENSOR,
        constants={"s": ints(2, 2)},
    ),
    case("slice", "y = Slice(x, z, o, a)", constants={"z": ints(1), "o": ints(3), "a": ints(1)}),
    case("slice 9", "y = Slice<starts=[1], ends=[3], axes=[1]>(x)", opset=9),
    case(
        "slice of all rows",
        "y = Slice(x, z, e)",
        constants={"z": ints(0, 1), "e": ints(2**63 - 1, 3)},
    ),
    case("pad", "y = Pad(x, p)", constants={"p": ints(0, 1, 0, 2)}),
    case("pad 18", "y = Pad(x, p, , a)", opset=18, constants={"p": ints(1, 2), "a": ints(1)}),
    case("tile", "y = Tile(x, r)", constants={"r": ints(1, 3)}),
    case("gather a column", "y = Gather<axis=1>(x, i)", constants={"i": ints(2, 0)}),
    case("embedding", "y = Gather(e, x)", inputs="int64[n,3] x", constants=weights(e=(5, 4))),
    case(
        "gather elements",
        "y, i = TopK(x, k) z = GatherElements<axis=1>(x, i) w = Sub(z, y)",
        constants={"k": ints(2)},
    ),
    case(
        "one hot",
        "h = OneHot<axis=-1>(x, d, v) y = Cast<to=1>(h)",
        inputs="int64[n,3] x",
        constants={"d": np.int64(4), "v": ints(0, 1)},
    ),
    case(
        "resize",
        'y = Resize<mode="linear">(x, , s)',
        inputs=IMAGES,
        constants={"s": np.float32([1, 1, 2, 2])},
    ),
    case(
        "resize to sizes",
        "b = Shape<end=2>(x) t = Concat<axis=0>(b, k) y = Resize(x, , , t)",
        inputs=IMAGES,
        constants={"k": ints(9, 9)},
    ),
    case(
        "upsample",
        "y = Upsample(x, s)",
        opset=9,
        inputs=IMAGES,
        constants={"s": np.float32([1, 1, 2, 2])},
    ),
    case("depth to space", "y = DepthToSpace<blocksize=2>(x)", inputs="float[n,4,2,2] x"),
    case("lower triangle", "y = Trilu<upper=0>(x)", inputs="float[n,3,3] x"),
    case(
        "lstm",
        "t = Transpose<perm=[1,0,2]>(x) o, h, c = LSTM<hidden_size=2>(t, w, r) y = Squeeze(h, a)",
        inputs=TENSOR,
        constants={**weights(w=(1, 8, 4), r=(1, 8, 2)), "a": ints(0)},
    ),
    case(
        "gru from zeros",
        "t = Transpose<perm=[1,0,2]>(x) b = Shape<start=1, end=2>(t) s = Concat<axis=0>(k, b, j) z = ConstantOfShape(s) o, h = GRU<hidden_size=2>(t, w, r, , , z) q = Squeeze(o, a) y = Transpose<perm=[1,0,2]>(q)",
        inputs=TENSOR,
        constants={**weights(w=(1, 6, 4), r=(1, 6, 2)), "a": ints(1), "k": ints(1), "j": ints(2)},
    ),
    case(
        "quantized",
        "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)",
        constants={"s": np.float32(0.5), "z": np.uint8(128)},
    ),
    case(
        "quantized product",
        "q = QuantizeLinear(x, s, z) r = QLinearMatMul(q, s, z, w, s, z, s, z) y = DequantizeLinear(r, s, z)",
        constants={
            "s": np.float32(0.5),
            "z": np.uint8(128),
            "w": SOURCE.integers(0, 255, (4, 3)).astype(np.uint8),
        },
    ),
    case("dropout", "y = Dropout(x)"),
    case(
        "fused",
        "g = com.microsoft.Gelu(x) b = com.microsoft.BiasGelu(g, v) y = com.microsoft.FusedMatMul<transB=1>(b, w)",
        constants=weights(v=4, w=(3, 4)),
    ),
    case(
        "table",
        's = ai.onnx.ml.Scaler<offset=[0.0,1.0,2.0,3.0], scale=[1.0,1.0,2.0,2.0]>(x) y = ai.onnx.ml.Normalizer<norm="L2">(s)',
    ),
    case(
        "regression",
        "y = ai.onnx.ml.LinearRegressor<coefficients=[1.0,2.0,3.0,4.0], intercepts=[1.0]>(x)",
    ),
    case(
        "function",
        "y = local.Scaled<by = 2.0>(x)",
        functions='<domain: "local", opset_import: ["" : 17]> Scaled<by>(x) => (y) { k = Constant<value_float: float = @by>() y = Mul(x, k) }',
    ),
    case(
        "range of a sequence",
        "s = Shape<start=1, end=2>(x) e = Squeeze(s) r = Range(z, e, o) f = Cast<to=1>(r) u = Unsqueeze(f, a) y = Add(x, u)",
        inputs="float[n,k,4] x",
        constants={"z": np.int64(0), "o": np.int64(1), "a": ints(1)},
    ),
    case(
        "conv transposed",
        "y = ConvTranspose<strides=[2,2]>(x, f)",
        inputs=IMAGES,
        constants=weights(f=(3, 2, 2, 2)),
    ),
    case(
        "group norm",
        "y = GroupNormalization<num_groups=2>(x, a, b)",
        opset=18,
        inputs="float[n,4,3] x",
        constants=weights(a=2, b=2),
    ),
    case(
        "rms norm",
        "y = RMSNormalization<axis=-1>(x, a)",
        opset=23,
        inputs=TENSOR,
        constants=weights(a=4),
    ),
    case("mean variance", "y = MeanVarianceNormalization<axes=[2,3]>(x)", inputs=IMAGES),
    case("attention", "y = Attention<is_causal=1>(x, x, x)", opset=23, inputs="float[n,2,3,4] x"),
    case(
        "attention with a mask",
        "y = Attention(x, x, x, m)",
        opset=23,
        inputs="float[n,2,3,4] x",
        constants=weights(m=(3, 3)),
    ),
    case(
        "attention of merged heads",
        "y = Attention<q_num_heads=2, kv_num_heads=1>(x, z, z)",
        opset=23,
        inputs="float[n,3,4] x, float[n,3,2] z",
    ),
    case(
        "skip norm",
        "y = com.microsoft.SkipLayerNormalization(x, z, a, b)",
        inputs="float[n,3,4] x, float[n,3,4] z",
        constants=weights(a=4, b=4),
    ),
    case("grid sample", "y = GridSample(x, z)", inputs="float[n,2,4,4] x, float[n,3,3,2] z"),
    case(
        "product of integers",
        "q = QuantizeLinear(x, s, z) p = MatMulInteger(q, w, z) y = Cast<to=1>(p)",
        constants={
            "s": np.float32(0.5),
            "z": np.uint8(128),
            "w": SOURCE.integers(0, 255, (4, 3)).astype(np.uint8),
        },
    ),
    case(
        "convolution of integers",
        "q = QuantizeLinear(x, s, z) p = ConvInteger(q, w, z) y = Cast<to=1>(p)",
        inputs=IMAGES,
        constants={
            "s": np.float32(0.5),
            "z": np.uint8(128),
            "w": SOURCE.integers(0, 255, (2, 3, 3, 3)).astype(np.uint8),
        },
    ),
    case(
        "quantized sum",
        "q = QuantizeLinear(x, s, z) p = com.microsoft.QLinearAdd(q, s, z, q, s, z, s, z) y = DequantizeLinear(p, s, z)",
        constants={"s": np.float32(0.5), "z": np.uint8(128)},
    ),
    case(
        "quantized by channel",
        "q = QuantizeLinear<axis=1>(x, s, z) y = DequantizeLinear<axis=1>(q, s, z)",
        constants={"s": np.float32([0.5, 1, 2, 4]), "z": np.zeros(4, np.uint8)},
    ),
    case(
        "lstm with states",
        "t = Transpose<perm=[1,0,2]>(x) a = Transpose<perm=[1,0,2]>(h) b = Transpose<perm=[1,0,2]>(c) o, g, d = LSTM<hidden_size=2>(t, w, r, , , a, b) y = Squeeze(g, k) z = Squeeze(d, k)",
        inputs="float[n,3,4] x, float[n,1,2] h, float[n,1,2] c",
        constants={**weights(w=(1, 8, 4), r=(1, 8, 2)), "k": ints(0)},
        outputs="y z",
    ),
    case("gather nd", "y = GatherND<batch_dims=1>(x, i)", inputs="float[n,4] x, int64[n,1] i"),
    case(
        "places of a table",
        "y = GatherND(e, x)",
        inputs="int64[n,2] x",
        constants=weights(e=(3, 3, 4)),
    ),
    case(
        "scan of log probabilities",
        "l = LogSoftmax(x) i = ArgMax<axis=-1, keepdims=1>(l) y = GatherElements<axis=1>(l, i)",
    ),
    case(
        "merged windows",
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, k) r = Reshape(x, t) p = Transpose<perm=[0,2,1,3]>(r) m = Reshape(p, u) f = Softmax(m) v = Concat<axis=0>(s, o) y = Reshape(f, v)",
        inputs="float[n,4,3] x",
        constants={"k": ints(2, 2, 3), "u": ints(-1, 2, 3), "o": ints(2, 2, 3)},
    ),
]


@pytest.mark.parametrize(("body", "more"), SHOWN)
def test_graphs_shown_row_wise_are_row_wise(body, more):
    made = graph(body, **more)
    assert unshown_in(made.SerializeToString()) == ""
    for seed in range(4):
        assert not differing_rows(made, 5, seed)


def test_random_graphs_shown_row_wise_are_row_wise():
    """Takes some seconds: checks rules in combinations that the list of cases does not have."""
    shown = 0
    for seed in range(150):
        grown = Grown(seed)
        for _ in range(8):
            grown.grow()
        for name, shape in grown.shapes.items():
            made = grown.model(name)
            if shape[:1] == (ROWS,) and not unshown_in(made.SerializeToString()):
                shown += 1
                assert not differing_rows(made, ROWS, seed), f"seed {seed}, output {name}"
    assert shown > 150


def test_truncated_graphs_are_refused():
    made = graph("c = Constant<value_ints = [0, -1]>() y = Reshape(x, c)", "float[n,2,2] x")
    whole = made.SerializeToString()
    assert unshown(whole) == ""
    made.ClearField("graph")
    imports = made.ByteSize() - 2  # they come after the graph, and the format's version before it
    assert all(unshown(whole[:end]) for end in range(len(whole) - imports))


def test_sizes_that_grow_without_end_are_given_up():
    squares = " ".join(f"s{i} = Mul(s{i - 1}, s{i - 1})" for i in range(1, 100))
    made = graph(f"s0 = Shape(x) {squares} y = Reshape(x, s99)")
    assert "beyond any tensor's" in unshown(made.SerializeToString())
    powers = " ".join(f"s{i} = Mul(s{i - 1}, s{i - 1})" for i in range(1, 100))
    made = graph(f"{powers} y = Reshape(x, s99)", constants={"s0": ints(3, 3)})
    assert "has a shape that is computed" in unshown(made.SerializeToString())
