"""Opset conversions by the text of the operators, if ONNX's converter has none or a wrong one."""

import importlib

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser
from onnx.backend.test.case import node as node_tests

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower import opset_conversion
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.verify.evaluator import evaluator

DTYPES = {"float16": np.float16, "float": np.float32, "double": np.float64}


def model(text, opset, imports=""):
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}{imports}]> {text}')


def at(proto, opset):
    made = ir.from_proto(proto)
    opset_conversion.convert(made, opset, exempt=lambda _: False)
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    assert {i.version for i in after.opset_import if not i.domain} == {opset}
    return after


def run(proto, *arrays):
    named = zip((port.name for port in proto.graph.input), arrays, strict=True)
    with np.errstate(all="ignore"):
        return evaluator(proto).run(None, dict(named))


FLOAT32_MAX = float(np.finfo(np.float32).max)
LIMITS = {
    "<min = 0.1, max = 6.0>": (float(np.float32(0.1)), 6),
    "<max = 6.0>": (-FLOAT32_MAX, 6),
    "": (-FLOAT32_MAX, FLOAT32_MAX),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("limits", LIMITS)
def test_clip_limits_get_the_element_type(limits, dtype):
    text = f"g ({dtype}[n] x) => ({dtype}[n] y) {{ y = Clip {limits} (x) }}"
    with np.errstate(over="ignore"):
        x = np.array([-1e300, -5, 0, 0.1, 3, 7, 1e300]).astype(DTYPES[dtype])
        low, high = (DTYPES[dtype](limit) for limit in LIMITS[limits])
    for after in (11, 13, 17):
        (y,) = run(at(model(text, 10), after), x)
        np.testing.assert_array_equal(y, np.clip(x, low, high))


CALLED = """g (float[n] x, {} z) => (float[n] y, {} w) {{ y = Own.F (x) w = Own.F (z) }}
    <domain: "Own", opset_import: ["": 10]> F (a) => (b) {{ b = Clip <max = 6.0> (a) }}"""


def test_clip_limits_in_function_follow_its_callers():
    text = CALLED.replace("float[n]", "double[n]").format("double[n]", "double[n]")
    x = np.array([-1.0, 7.0])
    y, _ = run(at(model(text, 10, ', "Own": 1'), 13), x, x)
    np.testing.assert_array_equal(y, [-1, 6])
    mixed = model(CALLED.format("double[n]", "double[n]"), 10, ', "Own": 1')
    with pytest.raises(TargetError, match=r"Clip 'b' in function Own::F \(the element type of 'a'"):
        opset_conversion.convert(ir.from_proto(mixed), 13, exempt=lambda _: False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pad_value_gets_the_element_type(dtype):
    text = f"g ({dtype}[2] x) => ({dtype}[n] y) {{ y = Pad <pads = [1, 0], value = 2.5> (x) }}"
    (y,) = run(at(model(text, 10), 17), np.array([1, 2], DTYPES[dtype]))
    np.testing.assert_array_equal(y, np.array([2.5, 1, 2], DTYPES[dtype]))


def test_pad_with_inputs_cannot_become_attributes():
    text = "g (float[2] x, int64[2] p) => (float[n] y) { y = Pad (x, p) }"
    with pytest.raises(TargetError, match="Pad 'y'"):
        at(model(text, 17), 10)


LENGTHS = [("m", 6), ("m", 7), ("m", 3), ("m", 4), ("6", 6), ("7", 7)]


@pytest.mark.parametrize(("stated", "length"), LENGTHS)
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("after", [13, 17])
def test_split_by_number_gets_sizes_below_18(after, axis, stated, length):
    text = f"g (float[n, {stated}] x) => (float[n, a] u, float[n, b] v, float[n, c] w) "
    proto = model(text + f"{{ u, v, w = Split <axis = {axis}, num_outputs = 3> (x) }}", 18)
    x = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    for got, want in zip(run(at(proto, after), x), run(proto, x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_uneven_split_is_an_attribute_below_13():
    text = "g (float[5] x) => (float[a] u, float[b] v) { u, v = Split <num_outputs = 2> (x) }"
    u, v = run(at(model(text, 18), 12), np.arange(5, dtype=np.float32))
    assert (len(u), len(v)) == (3, 2)
    with pytest.raises(TargetError, match="Split 'u'"):
        at(model(text.replace("float[5]", "float[n]"), 18), 12)


@pytest.mark.parametrize("axis", ["", "<axis = 0>", "<axis = 1>", "<axis = -2>", "<axis = 2>"])
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_the_axis_of_softmax_is_kept_across_13(op_type, axis):
    text = f"g (float[2, n, 4] x) => (float[2, n, 4] y) {{ y = {op_type} {axis} (x) }}"
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    for before, afters in ((17, (12, 10)), (12, (13, 17)), (11, (13, 17))):
        proto = model(text, before)
        for after in afters:
            for got, want in zip(run(at(proto, after), x), run(proto, x), strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=f"{before} to {after}")


def test_softmax_of_unknown_rank_keeps_last_axis():
    text = """g (float[2, 2] x, int64[k] s) => (float[2] y)
        { r = Reshape (x, s) t = Softmax (r) y = ReduceSum <axes = [1], keepdims = 0> (t) }"""
    proto = model(text.replace("<axes = [1], keepdims = 0> (t)", "<keepdims = 0> (t, a)"), 17)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "a"))
    x, sizes = np.float32([[1, 2], [3, 4]]), np.array([2, 2])
    (y,) = run(at(proto, 12), x, sizes)
    np.testing.assert_allclose(y, 1, rtol=1e-6)
    with pytest.raises(TargetError, match="the rank of 'r' is not known"):
        at(proto, 10)


GRID = """g (float[1, 2, 4, HEIGHT] x, float[1, 3, 3, 2] p) => (float[1, 2, 3, 3] y)
    { y = GridSample <mode = "cubic"> (x, p) }"""


POOL = """g (float[1, 3, 2, 2] x) => (float[1, 3, 1, 1] y) { y = AveragePool
    <kernel_shape = [3, 3], strides = [3, 3], pads = [1, 1, 1, 1], ceil_mode = 1> (x) }"""


def test_what_onnx_s_checker_refuses_is_named():
    # Before opset 19 the last window may begin in the padding: the result is larger.
    proto = model(POOL, 22)
    onnx.checker.check_model(proto, full_check=True)
    with pytest.raises(TargetError, match=r"AveragePool 'y' \(in opset 18, ONNX's checker says"):
        at(proto, 18)


def test_grid_sample_of_image_gets_older_mode():
    after = at(model(GRID.replace("HEIGHT", "6"), 20), 16)
    (mode,) = [a.s for a in after.graph.node[0].attribute if a.name == "mode"]
    assert mode == b"bicubic"
    volume = GRID.replace("HEIGHT", "6, 5").replace("3, 3, 2]", "3, 3, 3, 3]")
    with pytest.raises(TargetError, match="GridSample 'y'"):
        at(model(volume.replace("[1, 2, 3, 3] y", "[1, 2, 3, 3, 3] y"), 20), 16)


KEPT = {
    "an attribute at its default": (
        18,
        17,
        "float[1, 2, 8] x",
        "y = LpPool <kernel_shape = [2], ceil_mode = 0> (x)",
    ),
    "more element types": (14, 12, "float[1, 2, 8] x", "y = Add (x, x)"),
    "an axis from the front": (13, 10, "float[1, 2, 8] x", "y = Flatten <axis = 1> (x)"),
}


@pytest.mark.parametrize("what", KEPT)
def test_node_equal_in_both_versions_stays(what):
    before, after, port, nodes = KEPT[what]
    proto = model(f"g ({port}) => (float[a, b, c] y) {{ {nodes} }}", before)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    x = np.arange(16, dtype=np.float32).reshape(1, 2, 8)
    made = ir.from_proto(proto)
    opset_conversion.convert(made, after, exempt=lambda _: False)
    for got, want in zip(run(ir.to_proto(made), x), run(proto, x), strict=True):
        np.testing.assert_array_equal(got, want)


REFUSED = {
    "a negative axis": (13, 10, "y = Flatten <axis = -2> (x)", "axes|Flatten"),
    "an attribute with a value": (
        18,
        17,
        "y = LpPool <kernel_shape = [2], dilations = [2]> (x)",
        "dilations is not known",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_node_beyond_the_older_version_is_named(what):
    before, after, nodes, told = REFUSED[what]
    proto = model(f"g (float[1, 2, 8] x) => (float[a, b, c] y) {{ {nodes} }}", before)
    with pytest.raises(TargetError, match=told):
        opset_conversion.convert(ir.from_proto(proto), after, exempt=lambda _: False)


NARROW = {
    "bfloat16": (22, "onnx2torch", "y = Elu (x)", ["Cast", "Elu", "Cast"]),
    "double": (28, "onnx2torch", "y = Celu (x)", None),
    "int8": (13, "onnx2torch", "y = Relu (x)", ["Max"]),
    "bool": (20, "litert", "y = ReduceMax <keepdims = 1> (x)", ["Cast", "ReduceMax", "Cast"]),
}


@pytest.mark.parametrize("dtype", NARROW)
def test_types_that_opset_lacks_are_widened(dtype):
    opset, target, nodes, written = NARROW[dtype]
    made = ir.from_proto(model(f"g ({dtype}[n] x) => ({dtype}[m] y) {{ {nodes} }}", opset))
    lower(made, targets.find(target))
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    assert written in (None, [node.op_type for node in after.graph.node])


def test_a_type_that_no_form_helps_is_named():
    made = ir.from_proto(model("g (bool[2] x) => (bool[2] y) { y = Tile (x, x) }", 22))
    proto = model("g (string[2] x) => (bool[2] y) { y = Equal (x, x) }", 19)
    with pytest.raises(TargetError, match=r"Equal 'y' \(it takes no string in opset 15\)"):
        lower(ir.from_proto(proto), targets.find("onnx2torch"))
    with pytest.raises(TargetError, match=r"it takes no bool in opset"):
        lower(made, targets.find("onnxruntime"))


QUICK = (
    *("clip", "celu", "split", "pad", "softmax", "squeeze", "reducesum", "reducemean", "topk"),
    *("dropout", "cumsum", "flatten", "prelu", "thresholdedrelu", "isinf", "argmax", "where"),
)
SLOW = (
    *("gemm", "shape", "reshape", "slice", "unsqueeze", "conv", "maxpool", "averagepool"),
    *("resize", "gridsample", "lppool", "reduce_l2", "cast"),
)
UNEVALUATED = {"GridSample", "Upsample", "DequantizeLinear", "MeanVarianceNormalization"}
"""Operators that the evaluator implements at their newest opset only."""


def cases_of(name):
    importlib.import_module(f"{node_tests.__name__}.{name}")
    collected = node_tests._NodeTestCases  # noqa: SLF001 - the public loader makes all 3,000
    stem = name.replace("_", "")
    return [
        case
        for case in collected
        if case.model.graph.node[0].op_type.lower() == stem and "expanded" not in case.name
    ]


def neighbours(op_type, opset):
    """Yield the opsets on both sides of each version of the operator."""
    versions = {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == ("", op_type)
    }
    return sorted({o for v in versions for o in (v - 1, v) if 7 <= o <= 28} - {opset})


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.matrix) for name in SLOW)]
)
def test_node_tests_convert_equally_or_are_named(name):
    done = set()
    for case in cases_of(name):
        node, opset = case.model.graph.node[0], case.model.opset_import[0].version
        kind = (node.op_type, len(node.input), str(sorted(a.name for a in node.attribute)))
        if kind in done or len(case.model.graph.node) > 1 or node.op_type in UNEVALUATED:
            continue
        done.add(kind)
        arrays = case.data_sets[0][0]
        want = run(case.model, *arrays)
        for after in neighbours(node.op_type, opset):
            try:
                got = run(at(case.model, after), *arrays)
            except TargetError as error:
                assert node.op_type in str(error)  # noqa: PT017 - it may be named or converted
                continue
            for one, other in zip(got, want, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6, err_msg=case.name)


ENLARGED = {
    ("linear", (1, 2)): [[0, 0.5, 1, 1.5, 2, 2.5, 3, 3]],
    ("nearest", (1, 1.5)): [[0, 0, 1, 2, 2, 3]],
    ("nearest", (1, 0.6)): [[0, 2]],
}


@pytest.mark.parametrize("opset", [9, 10])
@pytest.mark.parametrize(("mode", "ratios"), ENLARGED)
def test_an_old_resize_keeps_its_places(mode, ratios, opset):
    if opset == 9 and min(ratios) < 1:
        pytest.skip("Upsample does not shrink")
    op_type = {9: "Upsample", 10: "Resize"}[opset]
    scales = ", ".join(map(str, map(float, ratios)))
    text = f"""g (float[1, 4] x) => (float[a, b] y) <float[2] s = {{{scales}}}>
    {{ y = {op_type} <mode = "{mode}"> (x, s) }}"""
    for after in (11, 13, 18):
        (y,) = run(at(model(text, opset), after), np.arange(4, dtype=np.float32)[None])
        np.testing.assert_array_equal(y, ENLARGED[mode, ratios])


def test_older_upsample_gets_ratios_as_input():
    text = """g (float[1, 2] x) => (float[a, b] y)
    { y = Upsample <mode = "linear", scales = [1.0, 2.0]> (x) }"""
    (y,) = run(at(model(text, 7), 11), np.float32([[0, 1]]))
    np.testing.assert_array_equal(y, np.float32([[0, 0.5, 1, 1]]))


def test_nearest_resize_that_grows_and_shrinks_stays():
    text = """g (float[4, 4] x) => (float[a, b] y) <float[2] s = {0.5, 2.0}>
    { y = Resize <mode = "nearest"> (x, s) }"""
    with pytest.raises(TargetError, match="grows on one axis and shrinks"):
        at(model(text, 10), 11)
