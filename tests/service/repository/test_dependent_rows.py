"""Graphs whose rows depend on each other: the reason names the node."""

# ruff: noqa: E501 - graphs are read best in one line

import numpy as np
import pytest
from rowwise import IMAGES, TENSOR, ZERO, case, graph, ints, weights

from gatewave.service.repository.rowwise.analysis import unshown_in

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


@pytest.mark.parametrize(("body", "more"), MEETS)
def test_dependent_rows_are_not_shown_row_wise(body, more):
    written = {name: value for name, value in more.items() if name != "why"}
    assert more["why"] in unshown_in(graph(body, **written).SerializeToString())
