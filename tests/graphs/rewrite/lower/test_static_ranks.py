"""Conditions, Squeeze and branches of If, in forms that OpenVINO and tract load."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser

from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.lower import lower

X = np.array([[-1.0, 2.0, 3.0]], np.float32)


def model(text, opset=17):
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def lowered(proto, target="openvino"):
    made = ir.from_proto(proto)
    changes = [change.what for change in lower(made, targets.find(target)).changes]
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    return after, changes


def run(proto, *arrays):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))[0]


BRANCHES = """y = If (c) < then_branch = t () => (float[a, b] p) { p = Abs (x) },
    else_branch = e () => (float[a, b] q) { q = Neg (x) } >"""
TO_A_SCALAR = "If of a condition that is a scalar"
CONDITIONS = {
    "scalar": ("bool c", "", [], [], ()),
    "one": ("bool[1] c", "", [], [], (1,)),
    "two axes": ("bool[1, 1] c", "", [TO_A_SCALAR], [], (1, 1)),
    "open": ("bool[k] c", "", [], [TO_A_SCALAR], (1,)),
    "computed": ("float[1, 1] f", "c = Cast <to = 9> (f)", [TO_A_SCALAR], [], (1, 1)),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_condition_gets_a_supported_shape(condition):
    port, nodes, openvino, tract, shape = CONDITIONS[condition]
    proto = model(f"g (float[m, n] x, {port}) => (float[m, n] y) {{ {nodes} {BRANCHES} }}")
    for target, said in (("openvino", openvino), ("tract", tract)):
        after, changes = lowered(proto, target)
        assert changes == said
        for flag in (True, False):
            given = np.full(shape, flag, np.float32 if "float" in port else bool)
            np.testing.assert_array_equal(run(after, X, given), run(proto, X, given))


SQUEEZES = {
    "known sizes": ("float[1, 3, 1] x", "float[3] y", "Squeeze(x)", (1, 3, 1), "with its axes"),
    "an open size": ("float[1, n] x", "float[n] y", "Squeeze(x)", (1, 3), "→ Reshape"),
    "no axis of 1": ("float[3, 2] x", "float[3, 2] y", "Squeeze(x)", (3, 2), "Identity"),
    "axes": ("float[1, n] x", "float[n] y", "Squeeze(x, k)", (1, 3), None),
}


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("written", SQUEEZES)
def test_a_squeeze_has_a_known_rank(written, opset):
    x, y, node, shape, said = SQUEEZES[written]
    if opset == 12:
        node = node.replace("Squeeze(x, k)", "Squeeze <axes = [0]> (x)")
    proto = model(f"g ({x}) => ({y}) <int64[1] k = {{0}}> {{ y = {node} }}", opset)
    for target in ("openvino", "tract"):
        after, changes = lowered(proto, target)
        assert [said in change for change in changes] == ([True] if said else [])
        given = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        np.testing.assert_array_equal(run(after, given), run(proto, given))


def test_squeeze_of_unknown_rank_is_left():
    proto = model("g (float[m, n] x) => (float y) { s = Squeeze(x) y = ReduceSum(s) }")
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    assert lowered(proto)[1] == []


SQUEEZING = """g (float[SIZE, n] x) => (float[p] y) <int64 zero = {0}, int64 one = {1}> {
    s = Shape(x) d = Gather(s, zero) c = Equal(d, one)
    y = If (c) <
        then_branch = t () => (float[a] u) <int64[1] k = {0}> { u = Squeeze (x, k) },
        else_branch = e () => (float[a, b] v) { v = Identity (x) }
    > }"""


@pytest.mark.parametrize("target", ["openvino", "tract"])
def test_taken_branch_of_different_rank_is_inlined(target):
    proto = model(SQUEEZING.replace("SIZE", "1"))
    after, changes = lowered(proto, target)
    assert changes == ["If of a condition that is always the same: its branch"]
    assert "If" not in {node.op_type for node in after.graph.node}
    np.testing.assert_array_equal(run(after, X), X[0])


def test_branches_of_unknown_condition_or_equal_rank_stay():
    assert lowered(model(SQUEEZING.replace("SIZE", "m")))[1] == []
    same = SQUEEZING.replace("SIZE", "1").replace("float[a, b] v", "float[a] v")
    same = same.replace("Identity (x)", "Squeeze (x, first)")
    same = same.replace("one = {1}", "one = {1}, int64[1] first = {0}")
    assert lowered(model(same))[1] == []


def test_nested_branch_is_inlined():
    inner = SQUEEZING.replace("SIZE", "1").replace(
        "{ u = Squeeze (x, k) }",
        "{ w = If (c) < then_branch = f () => (float[a] i) { i = Squeeze (x, k) }, "
        "else_branch = h () => (float[a, b] j) { j = Neg (x) } > u = Exp (w) }",
    )
    after, changes = lowered(model(inner))
    assert len(changes) == 2
    np.testing.assert_allclose(run(after, X), np.exp(X[0]), rtol=1e-6)


def test_other_targets_get_no_other_form():
    proto = model(SQUEEZING.replace("SIZE", "1"))
    assert lowered(proto, "onnxruntime")[1] == []
