"""Relu before a Clip with a constant minimum, merged because ONNX Runtime's optimiser fails."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gatewave.graphs import targets
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems

TARGET = "onnxruntime"
DTYPES = {"double": np.float64, "int8": np.int8, "int32": np.int32}


def model(nodes, dtype="double", opset=20, more="", low=0, functions=""):
    imports = ', "Own": 1' if functions else ""
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}{imports}]> g ({dtype}[n] x{more}) => '
        f"({dtype}[n] y) <{dtype} lo = {{{low}}}, {dtype} hi = {{6}}> {{ {nodes} }} {functions}"
    )


def lowered(proto):
    made = ir.from_proto(proto)
    changes = lower(made, targets.find(TARGET)).changes
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    return after, changes


def numbers(dtype):
    if dtype == "double":
        # Not infinity: without a max, ONNX Runtime cuts at the greatest finite number.
        return np.array([-np.inf, -9.5, -2.5, -0.0, 0.5, 3, 6, 7.5, 1e308, np.nan])
    return np.array([-128, -9, -1, 0, 1, 5, 6, 7, 127], DTYPES[dtype])


def run(proto, x):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    more = {port.name: np.array(2, x.dtype) for port in session.get_inputs()[1:]}
    return session.run(None, {"x": x, **more})[0]


WRITTEN = {
    "both limits": ("r = Relu(x) y = Clip(r, lo, hi)", 0),
    "a minimum only": ("r = Relu(x) y = Clip(r, lo)", 0),
    "a lower minimum": ("r = Relu(x) y = Clip(r, lo, hi)", -2),
    "a greater minimum": ("r = Relu(x) y = Clip(r, lo, hi)", 2),
    "limits that cross": ("r = Relu(x) y = Clip(r, lo, hi)", 9),
    "a chain": ("r = Relu(x) i = Identity(r) d = Dropout(i) y = Clip(d, lo, hi)", 0),
    "a computed minimum": ("l = Neg(hi) k = Identity(l) r = Relu(x) y = Clip(r, k, hi)", 0),
    "twice": ("r = Relu(x) c = Clip(r, lo, hi) s = Relu(c) y = Clip(s, lo, hi)", 1),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("written", WRITTEN)
def test_relu_and_clip_become_one_clip(written, dtype):
    nodes, low = WRITTEN[written]
    proto = model(nodes, dtype, low=low)
    assert [p.why for p in problems(ir.from_proto(proto), targets.find(TARGET))]
    after, changes = lowered(proto)
    assert "Relu" not in {node.op_type for node in after.graph.node}
    assert changes[0].what == "Clip of what Relu is given, with a min of at least 0"
    x = numbers(dtype)
    with np.errstate(invalid="ignore"):
        (want,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(run(after, x), want)


def test_the_unmerged_pair_does_not_load():
    with pytest.raises(Exception, match="relu_clip_fusion"):
        run(model(WRITTEN["both limits"][0]), numbers("double"))


LEFT = {
    "another use": ("r = Relu(x) c = Clip(r, lo, hi) y = Add(r, c)", ""),
    "a limit that is an input": ("r = Relu(x) y = Clip(r, least, hi)", ", double least"),
    "no minimum": ('r = Relu(x) y = Clip(r, "", hi)', ""),
    "the other order": ("c = Clip(x, lo, hi) y = Relu(c)", ""),
    "two clips": ("c = Clip(x, lo, hi) y = Clip(c, lo)", ""),
}


@pytest.mark.parametrize("written", LEFT)
def test_what_onnx_runtime_loads_is_left(written):
    nodes, more = LEFT[written]
    proto = model(nodes, more=more)
    after, changes = lowered(proto)
    assert changes == []
    assert after.graph == ir.to_proto(ir.from_proto(proto)).graph
    run(after, numbers("double"))


def test_float32_is_left_to_the_fusion():
    assert lowered(model("r = Relu(x) y = Clip(r, lo, hi)", "float"))[1] == []


def test_the_pair_is_merged_in_functions_and_bodies():
    function = '<domain: "Own", opset_import: ["": 20]> F (a, l, h) => (b) { '
    function += "r = Relu(a) b = Clip(r, l, h) }"
    after, _ = lowered(model("y = Own.F(x, lo, hi)", functions=function))
    np.testing.assert_array_equal(run(after, np.array([-1.0, 7.0])), [0, 6])
    branches = ", ".join(
        f"{kind}_branch = {kind} () => (double[n] {kind}) {{ r{kind} = Relu(x) {body} }}"
        for kind, body in (("then", "then = Clip(rthen, lo, hi)"), ("else", "else = Neg(relse)"))
    )
    text = f"c = Constant <value = bool {{1}}> () y = If (c) <{branches}>"
    after, changes = lowered(model(text))
    assert changes[0].scope.endswith("then_branch")
    np.testing.assert_array_equal(run(after, np.array([-1.0, 7.0])), [0, 6])


def test_relu6_of_old_opsets_runs_in_float64():
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 10]> g (double[n] x) => (double[n] y) '
        "{ r = Relu(x) y = Clip <min = 0.0, max = 6.0> (r) }"
    )
    after, _ = lowered(proto)
    np.testing.assert_array_equal(run(after, np.array([-1.0, 3.0, 7.0])), [0, 3, 6])
