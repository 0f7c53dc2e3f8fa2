"""Analysis of graphs: a graph that is shown to be row-wise is row-wise."""

# ruff: noqa: E501 - graphs are read best in one line

import numpy as np
import pytest
from random_graphs import ROWS, Grown
from rowwise import differing_rows, graph

from gatewave.service.repository.rowwise.analysis import unshown, unshown_in

SOURCE = np.random.default_rng(5)
W = SOURCE.normal(size=(4, 3)).astype(np.float32)
FILTERS = SOURCE.normal(size=(2, 3, 3, 3)).astype(np.float32)
IMAGES = "float[n,3,6,6] x"
TENSOR = "float[n,3,4] x"
ONE, ZERO = np.float32(1), np.float32(0)


def ints(*numbers):
    return np.array(numbers, np.int64)


def weights(**shapes):
    return {name: SOURCE.normal(size=size).astype(np.float32) for name, size in shapes.items()}


def case(name, body, **more):
    return pytest.param(body, more, id=name)


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

THRESHOLD = {"two": np.float32(2), "k": np.float32(1 / 255)}

MEETS = [
    case(
        "mask by rows",
        "y = Attention(x, x, x, m)",
        opset=23,
        inputs="float[n,2,3,4] x, float[n,3] m",
        why="a mask that may belong to other rows",
    ),
    case(
        "a state for all rows",
        "t = Transpose<perm=[1,0,2]>(x) o, h = GRU<hidden_size=2>(t, w, r, , , z) y = Squeeze(h, a)",
        inputs=TENSOR,
        constants={**weights(w=(1, 6, 4), r=(1, 6, 2), z=(1, 1, 2)), "a": ints(0)},
        why="states that do not belong to the rows",
    ),
    case(
        "concatenated constant",
        "y = Concat<axis=1>(x, b)",
        constants=weights(b=(1, 4)),
        why="joins the rows",
    ),
    case(
        "expanded to a number",
        "y = Expand(x, s)",
        constants={"s": ints(3, 4)},
        why="broadcasts a size along the rows",
    ),
    case(
        "chosen by a constant",
        "y = Where(c, x, z)",
        constants={"c": np.array([[True], [False]]), "z": ZERO},
        why="broadcasts a size along the rows",
    ),
    case(
        "zero points for rows",
        "q = QuantizeLinear(x, s, z) p = MatMulInteger(q, w, v) y = Cast<to=1>(p)",
        constants={
            "s": np.float32(0.5),
            "z": np.uint8(128),
            "v": np.uint8([1, 2, 3]),
            "w": np.ones((4, 3), np.uint8),
        },
        why="may belong to an axis",
    ),
    case(
        "resized to a number",
        "y = Resize(x, , , t)",
        inputs=IMAGES,
        constants={"t": ints(2, 3, 6, 6)},
        why="not shown to leave the number",
    ),
    case(
        "crops of rows",
        "y = RoiAlign(x, b, i)",
        inputs="float[n,3,6,6] x, float[n,4] b, int64[n] i",
        why="no rule",
    ),
    case(
        "samples of one grid",
        "y = GridSample(x, g)",
        inputs="float[n,2,4,4] x",
        constants=weights(g=(1, 3, 3, 2)),
        why="places of other rows",
    ),
    case("strings of rows", "y = StringNormalizer(x)", inputs="string[n] x", why="no rule"),
    case(
        "broadcast 6",
        "y = Add<broadcast=1, axis=0>(x, b)",
        opset=6,
        constants=weights(b=4),
        why="broadcasts as before opset 7",
    ),
    case(
        "dropout trains on no data",
        "d = Dropout(b, r, t) y = Add(x, d)",
        constants={**weights(b=4), "r": np.float32(0.5), "t": np.array(True)},
        why="at random",
    ),
    case("unknown domain", "y = local.Other(x)", why="node y (local.Other) may join the rows"),
    case(
        "function in a standard domain",
        "y = Relu(x)",
        functions='<domain: "", opset_import: ["" : 17]> Relu(x) => (y) { y = Softmax<axis=0>(x) }',
        why="calls a function that is not followed",
    ),
    case(
        "branch on no data",
        "y = If(c) <then_branch = a () => (float[1] z) { z = Identity(b) }, else_branch = d () => (float[1] z) { z = Neg(b) }> w = Add(x, y)",
        constants={"c": np.array(True), **weights(b=1)},
        outputs="w",
        why="node y (If)",
    ),
    case(
        "maximum",
        "m = ReduceMax<keepdims=0>(x) c = Greater(m, two) s = Mul(x, k) y = Where(c, s, x)",
        constants=THRESHOLD,
        why="node m (ReduceMax) joins the rows",
    ),
    case(
        "branch",
        "m = ReduceMax<axes=[1]>(x) c = Greater(m, two) y = If(c) <then_branch = a () => (float[n,4] z) { z = Neg(x) }, else_branch = b () => (float[n,4] z) { z = Identity(x) }>",
        constants=THRESHOLD,
        why="node y (If)",
    ),
    case(
        "captured",
        "c = Constant<value = bool {1}>() y = If(c) <then_branch = a () => (float[n,4] z) { z = Softmax<axis=0>(x) }, else_branch = b () => (float[n,4] z) { z = Identity(x) }>",
        why="node y (If)",
    ),
    case("mean", "m = ReduceMean<axes=[0]>(x) y = Sub(x, m)", why="(ReduceMean) joins"),
    case(
        "mean 18",
        "m = ReduceMean(x, a) y = Sub(x, m)",
        opset=18,
        constants={"a": ints(0)},
        why="(ReduceMean) joins",
    ),
    case("mean of all 18", "m = ReduceMean(x) y = Sub(x, m)", opset=18, why="(ReduceMean) joins"),
    case("negative axis", "m = ReduceMean<axes=[-2]>(x) y = Sub(x, m)", why="(ReduceMean) joins"),
    case(
        "moved axis",
        "t = Transpose(x) m = ReduceMean<axes=[1]>(t) u = Sub(t, m) y = Transpose(u)",
        why="(ReduceMean) joins",
    ),
    case("softmax", "y = Softmax<axis=0>(x)", why="normalises over the rows"),
    case("softmax 11", "y = Softmax<axis=0>(x)", opset=11, why="normalises over the rows"),
    case(
        "softmax 11 flattens",
        "t = Transpose<perm=[1,0,2]>(x) s = Softmax<axis=0>(t) y = Transpose<perm=[1,0,2]>(s)",
        opset=11,
        inputs=TENSOR,
        why="normalises over the rows",
    ),
    case(
        "matmul contracted",
        "t = Transpose(x) g = MatMul(t, x) s = ReduceSum(g) y = Mul(x, s)",
        why="sums over the rows",
    ),
    case(
        "matmul of all pairs",
        "t = Transpose(x) g = MatMul(x, t) y = Softmax(g)",
        why="has the rows as the columns",
    ),
    case("gemm", "t = Transpose(x) g = Gemm(x, t) y = Softmax(g)", why="(Gemm)"),
    case("gemm contracted", "g = Gemm<transA=1>(x, x) y = MatMul(x, g)", why="sums over the rows"),
    case(
        "einsum",
        'g = Einsum<equation="ni,nj->ij">(x, x) y = MatMul(x, g)',
        why="sums over the rows",
    ),
    case(
        "einsum of pairs",
        'g = Einsum<equation="ni,mi->nm">(x, x) y = Softmax(g)',
        why="combines rows with each other",
    ),
    case(
        "pairs",
        "u = Unsqueeze(x, a) v = Unsqueeze(x, b) d = Sub(u, v) y = ReduceMax<axes=[1], keepdims=0>(d)",
        constants={"a": ints(0), "b": ints(1)},
        why="combines rows with each other",
    ),
    case(
        "rows as space",
        "t = Transpose<perm=[2,1,0]>(x) c = Conv<pads=[1,1]>(t, f) y = Transpose<perm=[2,1,0]>(c)",
        inputs="float[n,1,1] x",
        constants=weights(f=(1, 1, 3)),
        why="another axis than the first",
    ),
    case(
        "pool over rows",
        "t = Transpose<perm=[2,1,0]>(x) c = MaxPool<kernel_shape=[3], pads=[1,1]>(t) y = Transpose<perm=[2,1,0]>(c)",
        inputs="float[n,1,1] x",
        why="joins the rows",
    ),
    case(
        "pool indices",
        "p, i = MaxPool<kernel_shape=[2,2]>(x) y = Cast<to=1>(i)",
        inputs=IMAGES,
        why="counts places",
    ),
    case(
        "batch norm trains",
        "y, m, v = BatchNormalization<training_mode=1>(x, a, a, b, a)",
        inputs=IMAGES,
        constants={"a": np.ones(3, np.float32), "b": np.zeros(3, np.float32)},
        why="mean over the rows",
    ),
    case(
        "layer norm of all",
        "y = LayerNormalization<axis=0>(x, a)",
        inputs="float[n,4] x",
        constants=weights(a=(1, 4)),
        why="normalises over the rows",
    ),
    case(
        "mean variance",
        "y = MeanVarianceNormalization(x)",
        inputs=IMAGES,
        why="normalises over the rows",
    ),
    case("lp norm", "y = LpNormalization<axis=0>(x)", why="normalises over the rows"),
    case("argmax", "i = ArgMax<axis=0>(x) f = Cast<to=1>(i) y = Add(x, f)", why="joins the rows"),
    case(
        "argmax by default", "i = ArgMax(x) f = Cast<to=1>(i) y = Add(x, f)", why="joins the rows"
    ),
    case("cumsum", "y = CumSum(x, a)", constants={"a": np.int64(0)}, why="joins the rows"),
    case("top", "y, i = TopK<axis=0>(x, k)", constants={"k": ints(1)}, why="ranks the rows"),
    case(
        "first row",
        "f = Gather(x, i) y = Sub(x, f)",
        constants={"i": ints(0)},
        why="takes some of the rows",
    ),
    case(
        "wide slice",
        "w = Tile(x, r) f = Reshape(w, s) p = Slice(f, z, e) y = Reshape(p, q)",
        constants={
            "r": ints(1, 1 << 18),
            "s": ints(-1),
            "z": ints(0),
            "e": ints(1 << 20),
            "q": ints(-1, 1 << 20),
        },
        why="takes some of the rows",
    ),
    case(
        "first row by slice",
        "f = Slice(x, z, o) y = Sub(x, f)",
        constants={"z": ints(0), "o": ints(1)},
        why="takes some of the rows",
    ),
    case(
        "reversed",
        "y = Slice(x, s, e, a, t)",
        constants={"s": ints(-1), "e": ints(-(2**62)), "a": ints(0), "t": ints(-1)},
        why="takes some of the rows",
    ),
    case(
        "shifted",
        "a = Slice(x, o, e) b = Slice(x, z, o) y = Concat<axis=0>(a, b)",
        constants={"z": ints(0), "o": ints(1), "e": ints(2**62)},
        why="takes some of the rows",
    ),
    case("doubled", "c = Concat<axis=0>(x, x) y = Relu(c)", why="joins the rows"),
    case("padded", "y = Pad(x, p)", constants={"p": ints(1, 0, 0, 0)}, why="pads the rows"),
    case("tiled", "y = Tile(x, r)", constants={"r": ints(2, 1)}, why="repeats axis 0"),
    case(
        "split",
        "a, b = Split<axis=0>(x, s) y = Concat<axis=0>(b, a)",
        constants={"s": ints(1, 1)},
        why="divides the rows",
    ),
    case(
        "reshape to one",
        "r = Reshape(x, s) m = ReduceMax<axes=[1]>(r) y = Sub(x, m)",
        constants={"s": ints(1, -1)},
        why="(ReduceMax) joins the rows",
    ),
    case(
        "reshape in groups",
        "r = Reshape(x, s) m = Softmax(r) y = Reshape(m, t)",
        constants={"s": ints(-1, 8), "t": ints(-1, 4)},
        why="not shown to stay apart",
    ),
    case(
        "reshape of turned",
        "t = Transpose(x) y = Reshape(t, s)",
        constants={"s": ints(-1, 4)},
        why="not shown to stay apart",
    ),
    case(
        "reshape by another shape",
        "t = Transpose(x) s = Shape(x) y = Reshape(t, s)",
        why="not shown to stay apart",
    ),
    case(
        "reshape of open sizes",
        "y = Reshape(x, s)",
        inputs="float[n,k] x",
        constants={"s": ints(-1, 2)},
        why="not shown to stay apart",
    ),
    case(
        "flatten of all",
        "f = Flatten<axis=0>(x) m = ReduceMax<axes=[1]>(f) y = Sub(x, m)",
        why="joins the rows",
    ),
    case(
        "squeeze of all", "y = Squeeze(x)", inputs="float[n,1] x", why="removes all axes of size 1"
    ),
    case(
        "squeeze of the rows",
        "y = Squeeze(x, a)",
        inputs="float[n,4] x",
        constants={"a": ints(0)},
        why="removes the axis of the rows",
    ),
    case(
        "how many rows",
        "s = Shape<end=1>(x) f = Cast<to=1>(s) y = Div(x, f)",
        why="computes with the number of rows",
    ),
    case(
        "how many elements",
        "s = Size(x) f = Cast<to=1>(s) y = Div(x, f)",
        why="computes with the number of rows",
    ),
    case(
        "one row or more",
        "s = Shape<end=1>(x) c = Equal(s, o) z = Neg(x) y = Where(c, x, z)",
        constants={"o": ints(1)},
        why="computes with the number of rows",
    ),
    case(
        "position of a row",
        "s = Shape<end=1>(x) e = Squeeze(s) r = Range(z, e, o) f = Cast<to=1>(r) u = Unsqueeze(f, a) y = Add(x, u)",
        constants={"z": np.int64(0), "o": np.int64(1), "a": ints(1)},
        why="computes with the number of rows",
    ),
    case(
        "as many columns as rows",
        "s = Shape<end=1>(x) t = Concat<axis=0>(s, s) z = ConstantOfShape(t) e = EyeLike(z) y = MatMul(e, x)",
        why="combines rows with each other",
    ),
    case(
        "rows counted by ones",
        "s = Shape<end=1>(x) o = ConstantOfShape<value = float[1] {1.0}>(s) c = ReduceSum(o) y = Div(x, c)",
        why="(ReduceSum) joins the rows",
    ),
    case(
        "a vector along the rows",
        "y = Add(x, b)",
        constants=weights(b=(3, 1)),
        why="broadcasts a size along the rows",
    ),
    case(
        "unknown sizes",
        "z = NonZero(w) f = Cast<to=1>(z) y = Add(x, f)",
        constants={"w": np.float32([1, 0, 1])},
        why="unknown rank",
    ),
    case(
        "rows of another kind",
        "t = Transpose(z) y = Add(x, t)",
        inputs="float[n,n] x, float[n,n] z",
        why="broadcasts a size along the rows",
    ),
    case("non zero", "i = NonZero(x) y = Cast<to=1>(i)", why="no rule"),
    case("unique", "u = Unique(x) m = ReduceMax(u) y = Sub(x, m)", why="no rule"),
    case(
        "compress",
        "c = ReduceMax<axes=[1], keepdims=0>(x) b = Cast<to=9>(c) y = Compress<axis=0>(x, b)",
        why="no rule",
    ),
    case(
        "scatter",
        "y = ScatterElements<axis=0>(x, i, x)",
        inputs="float[n,1] x, int64[n,1] i",
        why="no rule",
    ),
    case(
        "gather by rows",
        "y = Gather(x, i)",
        inputs="float[n,4] x, int64[n] i",
        why="takes some of the rows",
    ),
    case(
        "gather elements of rows",
        "y = GatherElements(x, i)",
        inputs="float[n,1] x, int64[n,1] i",
        why="elements of other rows",
    ),
    case(
        "gather nd",
        "y = GatherND(x, i)",
        inputs="float[n,4] x, int64[n,1] i",
        why="elements of other rows",
    ),
    case("random", "r = RandomNormalLike(x) y = Add(x, r)", why="no rule"),
    case("random of no data", "r = RandomNormal<shape=[1,4]>() y = Add(x, r)", why="no rule"),
    case(
        "dropout trains",
        "y = Dropout(x, r, t)",
        constants={"r": np.float32(0.5), "t": np.array(True)},
        why="at random",
    ),
    case(
        "dynamic quantization",
        "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)",
        why="(DynamicQuantizeLinear)",
    ),
    case(
        "scale from the rows",
        "a = Abs(x) s = ReduceMax<axes=[1], keepdims=0>(a) q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)",
        why="takes a parameter from the rows",
    ),
    case(
        "scale for each row",
        "y = QuantizeLinear<axis=0>(x, s)",
        constants={"s": np.float32([1, 2, 3])},
        why="joins the rows",
    ),
    case(
        "resize of the rows",
        "y = Resize(x, , s)",
        constants={"s": np.float32([2, 1])},
        why="not shown to leave the number",
    ),
    case(
        "sequence of rows",
        "t = Unsqueeze(x, a) o, h = GRU<hidden_size=2>(t, w, r) y = Squeeze(o, b)",
        constants={**weights(w=(1, 6, 4), r=(1, 6, 2)), "a": ints(1), "b": ints(1, 2)},
        why="another axis than the second",
    ),
    case("clip by rows", "m = ReduceMax<keepdims=0>(x) y = Clip(x, m)", why="joins the rows"),
    case(
        "loop",
        "y = Loop(m, c, x) <body = b (int64 i, bool g, float[n,4] v) => (bool h, float[n,4] w) { h = Identity(g) w = Softmax<axis=0>(v) }>",
        constants={"m": np.int64(2), "c": np.array(True)},
        why="node y (Loop)",
    ),
    case(
        "function",
        "y = local.Centred(x)",
        functions='<domain: "local", opset_import: ["" : 17]> Centred(x) => (y) { m = ReduceMean<axes=[0]>(x) y = Sub(x, m) }',
        why="node m (ReduceMean) joins the rows",
    ),
    case(
        "function's attribute",
        "y = local.Norm<axis = 0>(x)",
        functions='<domain: "local", opset_import: ["" : 17]> Norm<axis>(x) => (y) { y = Softmax<axis: int = @axis>(x) }',
        why="normalises over the rows",
    ),
    case(
        "no rows in an output",
        "y = Identity(b)",
        constants=weights(b=4),
        why="not shown to have a row for each row",
    ),
    case("rows on another axis", "y = Transpose(x)", why="not shown to have a row for each row"),
    case(
        "more rows",
        "y = Reshape(x, s)",
        constants={"s": ints(-1)},
        why="not shown to have a row for each row",
    ),
    case(
        "one of two outputs",
        "y = Relu(x) z = Softmax<axis=0>(x)",
        outputs="y z",
        why="node z (Softmax)",
    ),
]


@pytest.mark.parametrize(("body", "more"), SHOWN)
def test_graphs_shown_row_wise_are_row_wise(body, more):
    made = graph(body, **more)
    assert unshown_in(made.SerializeToString()) == ""
    for seed in range(4):
        assert not differing_rows(made, 5, seed)


@pytest.mark.parametrize(("body", "more"), MEETS)
def test_dependent_rows_are_not_shown_row_wise(body, more):
    why = more.pop("why")
    assert why in unshown_in(graph(body, **more).SerializeToString())


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
