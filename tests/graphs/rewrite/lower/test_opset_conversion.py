"""Conversion of models to another opset: the same results, or an error with the nodes' names."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower import opset_conversion

RNG = np.random.default_rng(0)
X = RNG.standard_normal((1, 2, 4, 6)).astype(np.float32)


def model(text, opset, functions="", imports=""):
    head = f'<ir_version: 10, opset_import: ["" : {opset}{imports}]>'
    return parser.parse_model(f"{head} {text} {functions}")


def at(proto, opset):
    made = ir.from_proto(proto)
    changes = opset_conversion.convert(made, opset, exempt=lambda _: False)
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    assert [i.version for i in after.opset_import if not i.domain] == [opset]
    return after, changes


def graph(body, inits=""):
    end = "r = ReduceSum <keepdims = 0> (z) y = Identity (r)"
    return f"g (float[1, 2, 4, 6] x) => (float y) {inits} {{ {body} {end} }}"


PADS = "value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}"

SAME = {
    "reshape": (28, 17, "s = Constant <value = int64[2] {8, 6}> () z = Reshape (x, s)"),
    "cast": (17, 28, "d = Cast <to = 11> (x) z = Cast <to = 1> (d)"),
    "identity and shape": (28, 17, "i = Identity (x) s = Shape (i) z = Cast <to = 1> (s)"),
    "hardswish": (28, 17, "z = HardSwish (x)"),
    "pooling": (28, 17, "z = AveragePool <kernel_shape = [2, 2]> (x)"),
    "pad": (
        19,
        17,
        f'p = Constant <{PADS}> () z = Pad <mode = "edge"> (x, p)',
    ),
    "split": (20, 25, "z, b = Split <num_outputs = 2, axis = 1> (x)"),
}


@pytest.mark.parametrize("name", SAME)
def test_operators_that_only_gain_types_are_unchanged(name):
    before, after, body = SAME[name]
    proto = model(graph(body), before)
    converted, (change,) = at(proto, after)
    assert converted.graph == ir.to_proto(ir.from_proto(proto)).graph
    assert change.what == f"opset {before} → {after}"


def test_attributes_that_became_inputs_are_given_as_inputs():
    proto = model(
        "g (float[1, 2, 4, 6] x) => (float[2, 4, 6] y) { y = Squeeze <axes = [0]> (x) }", 11
    )
    node = proto.graph.node[0]
    node.name = "squeeze"
    node.metadata_props.add(key="layer", value="1")
    after, changes = at(proto, 18)
    assert [n.op_type for n in after.graph.node] == ["Constant", "Squeeze"]
    assert [n.name for n in after.graph.node] == ["squeeze/Constant", "squeeze"]
    assert all(n.metadata_props[0].value == "1" for n in after.graph.node)
    assert changes[0].what == "Squeeze → Constant, Squeeze"
    (y,) = ReferenceEvaluator(after).run(None, {"x": X})
    np.testing.assert_array_equal(y, X[0])


def test_inputs_that_were_attributes_are_read_from_constants():
    text = (
        "g (float[1, 2, 4, 6] x) => (float[1, 2, 4] y) <int64[1] a = {3}> "
        "{ y = ReduceMean <keepdims = 0> (x, a) }"
    )
    after, _ = at(model(text, 20), 17)
    assert after.graph.node[0].attribute[-1].name in ("axes", "keepdims")
    (y,) = ReferenceEvaluator(after).run(None, {"x": X})
    np.testing.assert_allclose(y, X.mean(axis=3), rtol=1e-5)


SPLITS = {
    "by sizes": ("<int64[2] sizes = {2, 4}> { a, b = Split <axis = 3> (x, sizes) }", [2, 4]),
    "by number": ("{ a, b = Split <axis = -1, num_outputs = 2> (x) }", [3, 3]),
    "by number, of an inner value": (
        "{ inner = Neg(Y) a, b = Split <axis = 3, num_outputs = 2> (inner) }",
        [3, 3],
    ),
}


@pytest.mark.parametrize("split", SPLITS)
def test_split_without_num_outputs_stays(split):
    body, sizes = SPLITS[split]
    text = f"g (float[1, 2, 4, 6] {'Y' if 'inner' in body else 'x'}) => "
    text += f"(float[1, 2, 4, {sizes[0]}] a, float[1, 2, 4, {sizes[1]}] b) {body}"
    after, _ = at(model(text, 20), 15)
    (node,) = [node for node in after.graph.node if node.op_type == "Split"]
    assert "num_outputs" not in {attribute.name for attribute in node.attribute}
    parts = ReferenceEvaluator(after).run(None, {after.graph.input[0].name: X})
    assert [part.shape[-1] for part in parts] == sizes
    sign = -1 if "inner" in body else 1
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), sign * X)


def test_attributes_that_are_spelled_otherwise_are_spelled_so():
    text = (
        "g (float[1, 2, 4, 6] x, float[1, 3, 3, 2] p) => (float[1, 2, 3, 3] y) "
        '{ y = GridSample <mode = "bilinear"> (x, p) }'
    )
    after, _ = at(model(text, 16), 20)
    (mode,) = [a.s for a in after.graph.node[0].attribute if a.name == "mode"]
    assert mode == b"linear"


def test_softmax_keeps_its_old_meaning():
    text = "g (float[1, 2, 4, 6] x) => (float[1, 2, 4, 6] y) { y = Softmax <axis = 1> (x) }"
    after, _ = at(model(text, 11), 13)
    (y,) = ReferenceEvaluator(after).run(None, {"x": X})
    flat = np.exp(X.reshape(1, -1))
    np.testing.assert_allclose(y.reshape(1, -1), flat / flat.sum(), rtol=1e-5)


NESTED = """
g (float[1, 2, 4, 6] x, bool c) => (float[n] y)
{
  y = If (c) <
    then_branch = a () => (float[n] t) {
      s = Squeeze <axes = [0]> (x) k = Constant <value = int64[1] {-1}> () t = Reshape (s, k)
    },
    else_branch = b () => (float[n] e) { e = Own.Flat (x) }
  >
}
"""
FLAT = """
<domain: "Own", opset_import: ["" : 11]>
Flat (a) => (b) {
  s = Squeeze <axes = [0]> (a) k = Constant <value = int64[1] {-1}> () b = Reshape (s, k)
}
"""


@pytest.mark.parametrize("flag", [True, False])
def test_bodies_and_functions_are_converted_too(flag):
    proto = model(NESTED, 11, FLAT, ', "Own" : 1')
    after, changes = at(proto, 18)
    assert [i.version for i in after.functions[0].opset_import] == [18]
    scopes = {c.scope for c in changes}
    assert {"If_0/then_branch", "function Own::Flat"} <= scopes
    (y,) = ReferenceEvaluator(after).run(None, {"x": X, "c": np.array(flag)})
    np.testing.assert_array_equal(y, X.ravel())


def test_attributes_of_a_function_stay_its_own():
    function = """
    <domain: "Own", opset_import: ["" : 25]>
    Sum <axis> (a) => (b) {
      c = Constant <value_int: int = @axis> () d = Cast <to = 1> (c) b = Add (a, d)
    }
    """
    text = "g (float[1, 2, 4, 6] x) => (float[1, 2, 4, 6] y) { y = Own.Sum <axis = 2> (x) }"
    after, _ = at(model(text, 25, function, ', "Own" : 1'), 17)
    (y,) = ReferenceEvaluator(after).run(None, {"x": X})
    np.testing.assert_allclose(y, X + 2, rtol=1e-6)


def test_unknown_attributes_with_defaults_are_removed():
    text = (
        "g (float[1, 2, 4, 6] x) => (float[1, 2, 4] y) <int64[1] a = {3}> "
        "{ y = ReduceMean <keepdims = 0, noop_with_empty_axes = 0> (x, a) }"
    )
    after, _ = at(model(text, 20), 17)
    (y,) = ReferenceEvaluator(after).run(None, {"x": X})
    np.testing.assert_allclose(y, X.mean(axis=3), rtol=1e-5)


STUCK = {
    "attribute": (25, 18, 'z = Cast <to = 1, round_mode = "down"> (x)', "round_mode is not known"),
    "value": (
        19,
        17,
        f'p = Constant <{PADS}> () z = Pad <mode = "wrap"> (x, p)',
        "its mode wrap is not known before opset 19",
    ),
    "none there": (
        23,
        22,
        "z = RMSNormalization (x, w)",
        r"RMSNormalization 'z'.*there is none in opset 22",
    ),
    "another meaning": (
        18,
        22,
        "z = GroupNormalization <num_groups = 1> (x, w, w)",
        "per channel after",
    ),
    "no adapter": (17, 13, "m, v = Split (x) z = BatchNormalization (x, w, w, w, w)", "BatchNorm"),
}


@pytest.mark.parametrize("name", STUCK)
def test_obstacles_are_named_and_model_is_unchanged(name):
    before, after, body, told = STUCK[name]
    proto = model(graph(body, "<float[2] w = {1.0, 2.0}>"), before)
    made = ir.from_proto(proto)
    unchanged = ir.to_proto(made).SerializeToString()
    with pytest.raises(TargetError, match=told):
        opset_conversion.convert(made, after, exempt=lambda _: False)
    assert ir.to_proto(made).SerializeToString() == unchanged


def test_large_weights_never_leave_the_model():
    text = "g (float[1, 2, 4, 6] x) => (float[1, 2, 4, 6] y) { y = Mul (x, w) }"
    proto = model(text, 28)
    made = ir.from_proto(proto)

    class Untouched(ir.ExternalTensor):
        def numpy(self):
            raise AssertionError("the converter needs no weights")

        tobytes = numpy

    tensor = Untouched("w.bin", 0, 4, ir.DataType.FLOAT, shape=ir.Shape([2**31]), name="w")
    weight = made.graph[0].inputs[1]
    weight.const_value = tensor
    made.graph.register_initializer(weight)
    opset_conversion.convert(made, 17, exempt=lambda _: False)
    assert weight.const_value is tensor
