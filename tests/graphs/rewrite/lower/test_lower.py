"""Lowering of models for a target: only supported operators, and the same results."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from onnx import parser
from onnx.reference import ReferenceEvaluator
from records import CASES

from gatewave.export.operators import to_bytes
from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.legality import problems
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.models import ACTIVATIONS

WINDOWS = np.array([[-30.0, -2.5, -0.5, 0.0], [0.25, 1.0, 3.0, 40.0]], np.float32)


def model(text, opset=28, ir_version=10, imports=""):
    return parser.parse_model(
        f'<ir_version: {ir_version}, opset_import: ["" : {opset}{imports}]> {text}'
    )


def lowered(proto, target):
    known = targets.find(target)
    made = ir.from_proto(proto)
    changes = lower(made, known).changes
    assert [problem for problem in problems(made, known) if problem.known] == []
    after = ir.to_proto(made)
    onnx.checker.check_model(after, full_check=True)
    return after, changes


def op_types(proto):
    return [node.op_type for node in proto.graph.node]


def run(proto, *arrays):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))


def evaluate(proto, *arrays):
    """Evaluate ``proto`` with ONNX's reference evaluator."""
    names = [port.name for port in proto.graph.input]
    return ReferenceEvaluator(proto).run(None, dict(zip(names, arrays, strict=True)))


def unary(op, dtype="float", **rest):
    return model(f"g ({dtype}[n, 4] x) => ({dtype}[n, 4] y) {{ y = {op} (x) }}", **rest)


UNARY = (
    "Swish <alpha = 1.702>",
    "Swish",
    "Mish",
    "Gelu",
    'Gelu <approximate = "tanh">',
    "HardSwish",
)


@pytest.mark.parametrize("target", ["litert", "onnxruntime-1.20", "tvm", "iree"])
@pytest.mark.parametrize("op", UNARY)
def test_every_activation_gives_what_onnx_means_by_it(op, target):
    proto = unary(op)
    after, _ = lowered(proto, target)
    assert not {"Swish", "SwiGLU"} & {*op_types(after)}
    (want,) = evaluate(proto, WINDOWS)
    np.testing.assert_allclose(run(after, WINDOWS)[0], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", UNARY)
def test_no_formula_overflows(op):
    everywhere = np.array([[-1e38, -200.0, 200.0, 1e38]], np.float32)
    after, _ = lowered(unary(op), "litert")
    tail = np.array([[0.0, 0.0, 200.0, 1e38]], np.float32)
    np.testing.assert_allclose(run(after, everywhere)[0], tail, atol=1e-6)


def test_what_the_target_runs_is_left_alone():
    proto = unary("Swish", opset=24)
    after, changes = lowered(proto, "onnxruntime-1.32")
    assert changes == []
    assert after.graph == ir.to_proto(ir.from_proto(proto)).graph


def test_swish_of_another_alpha_is_written_out_where_alpha_is_ignored():
    assert op_types(lowered(unary("Swish"), "tract")[0]) == ["Swish"]
    after, (change,) = lowered(unary("Swish <alpha = 2.0>"), "tract")
    assert op_types(after) == ["Mul", "Sigmoid", "Mul"]
    assert change.what == "Swish → Mul, Sigmoid, Mul"
    assert change.output == "y"


def test_the_gate_of_swiglu_comes_first():
    proto = model(
        "g (float[n, 4] a, float[n, 4] b) => (float[n, 4] y) { y = SwiGLU <alpha = 0.5> (a, b) }"
    )
    after, _ = lowered(proto, "onnxruntime-1.31")
    want = evaluate(proto, WINDOWS, WINDOWS[::-1].copy())
    got = run(after, WINDOWS, WINDOWS[::-1].copy())
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert after.opset_import[0].version == 26


def test_what_is_fused_is_written_so_that_it_is(tmp_path):
    for op, fused in (("Swish", "QuickGelu"), ("Swish <alpha = 1.702>", "QuickGelu")):
        after, _ = lowered(unary(op), "onnxruntime")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(after.SerializeToString(), options, providers=["CPUExecutionProvider"])
        assert op_types(onnx.load(tmp_path / "optimised.onnx")) == [fused]


def test_16_bit_is_computed_in_float32_and_rounded_once():
    x = np.arange(-(2**15), 2**15, dtype=np.int32).astype(np.int16).view(np.float16)
    x = x[np.isfinite(x)].reshape(-1, 4)
    after, _ = lowered(unary("Mish", "float16", opset=22), "litert")
    wide = evaluate(unary("Mish", "double", opset=22), x.astype(np.float64))[0]
    got = run(after, x)[0]
    np.testing.assert_allclose(got, wide.astype(np.float16), rtol=1e-3, atol=1e-7)


def test_casts_are_said_aloud():
    _, changes = lowered(unary("Swish", "float16"), "onnxruntime")
    assert [c.what for c in changes] == [
        "Swish → Sigmoid, Mul, cast from float16 to float32 and back"
    ]


BFLOAT16 = """
g (bfloat16[n, 4] x) => (bfloat16[n, 4] y, bfloat16[n, 4] s)
{ s = Sigmoid (x)  p = Mul (x, s)  y = Transpose <perm = [0, 1]> (p) }
"""


def test_operators_without_bfloat16_are_bridged_by_casts():
    after, changes = lowered(model(BFLOAT16, opset=22), "onnxruntime")
    assert [c.what for c in changes] == [
        f"{op} in float32, cast from bfloat16 to float32 and back" for op in ("Sigmoid", "Mul")
    ]
    assert op_types(after)[-1] == "Transpose"
    assert "Transpose" not in {c.what.split()[0] for c in changes}
    inputs = WINDOWS / 4  # ONNX Runtime's Sigmoid is 0 far out
    x = torch.from_numpy(inputs).bfloat16()
    gate = torch.sigmoid(x.float()).bfloat16()
    (y,) = run(between_float32(after), inputs)
    assert torch.equal(torch.from_numpy(y), (x.float() * gate.float()).bfloat16().float())


SECOND = {
    "indices": ("int64", "k = Constant <value = int64[1] {2}> () v, o = TopK (x, k)"),
    "a mask": ("bool", "v, o = Dropout (x)"),
    "only the second": (
        "int64",
        "k = Constant <value = int64[1] {2}> () u, o = TopK (x, k) v = Abs (x)",
    ),
}


@pytest.mark.parametrize("what", SECOND)
def test_a_bridged_operator_keeps_its_other_outputs_and_their_types(what):
    kind, nodes = SECOND[what]
    text = f"g (bfloat16[n, 4] x) => (bfloat16[n, m] v, {kind}[n, m] o) {{ {nodes} }}"
    after, changes = lowered(model(text, opset=22), "onnxruntime")
    assert all(
        c.what.endswith("in float32, cast from bfloat16 to float32 and back") for c in changes
    )
    casts = [node.output[0] for node in after.graph.node if node.op_type == "Cast"]
    assert "v" in casts
    assert "o" not in casts


QUANTISED = "q = QuantizeLinear (x, s) y = DequantizeLinear (q, s)"


@pytest.mark.parametrize(
    "nodes", [QUANTISED, "r = Constant <value = int64[2] {1, 2}> () y = Tile (x, r)"]
)
def test_what_onnx_runtime_refuses_in_bfloat16_is_bridged_though_it_moves_or_quantises(nodes):
    text = f"g (bfloat16[2, 4] x, bfloat16 s) => (bfloat16[n, m] y) {{ {nodes} }}"
    after, changes = lowered(model(text, opset=22), "onnxruntime")
    assert all("in float32, cast from bfloat16" in change.what for change in changes)
    ort.InferenceSession(after.SerializeToString())


def test_sequences_are_no_tensors_that_could_be_cast():
    text = (
        "g (bfloat16[4] x) => (bfloat16[8] y) "
        "{ s = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0> (s) }"
    )
    with pytest.raises(
        TargetError, match=r"does not run SequenceConstruct at opset 22 in bfloat16"
    ):
        lower(ir.from_proto(model(text, opset=22)), targets.find("onnxruntime"))


def between_float32(proto):
    """Return the model with float32 ports and its first output only: NumPy has no bfloat16."""
    graph = ir.from_proto(proto).graph
    (x,), y = graph.inputs, graph.outputs[0]
    wide = ir.Value(name="wide", type=ir.TensorType(ir.DataType.FLOAT), shape=x.shape)
    narrow = ir.node("Cast", [wide], attributes={"to": ir.DataType.BFLOAT16.value})
    x.replace_all_uses_with(narrow.outputs[0])
    last = ir.node("Cast", [y], attributes={"to": 1})
    last.outputs[0].name, last.outputs[0].type, last.outputs[0].shape = "out", wide.type, y.shape
    graph.insert_before(graph[0], narrow)
    graph.append(last)
    graph.inputs[0] = wide
    graph.outputs.clear()
    graph.outputs.append(last.outputs[0])
    return ir.to_proto(ir.Model(graph, ir_version=10))


SILUS = {
    "bare": "s = Sigmoid (x) y = Mul (x, s)",
    "commuted": "s = Sigmoid (x) y = Mul (s, x)",
    "scaled": (
        "c = Constant <value = double {1.702}> () u = Mul (c, x) s = Sigmoid (u) y = Mul (x, s)"
    ),
}


@pytest.mark.parametrize("written", SILUS)
def test_a_float64_silu_gets_a_form_that_is_not_misfused_and_equal_to_the_bit(written):
    proto = model(f"g (double[n, 4] x) => (double[n, 4] y) {{ {SILUS[written]} }}", opset=20)
    after, (change,) = lowered(proto, "onnxruntime-1.30")
    assert op_types(after)[-3:] == ["Neg", "Mul", "Neg"]
    assert change.what == "-(-x · σ(αx)), which is not misfused"
    x = np.linspace(-800, 800, 4004).reshape(-1, 4)
    np.testing.assert_array_equal(run(after, x)[0], run(proto, x)[0])
    assert lowered(proto, "onnxruntime-1.31")[1] == []


def test_a_float64_swish_is_written_out_so_that_it_is_not_misfused():
    after, changes = lowered(unary("Swish", "double"), "onnxruntime-1.30")
    assert op_types(after) == ["Sigmoid", "Neg", "Mul", "Neg"]
    assert [c.output for c in changes if c.output] == ["y", "y"]


OURS = sorted(CASES)


@pytest.mark.parametrize("stem", OURS)
@pytest.mark.parametrize("with_body", [True, False])
def test_our_operators_become_standard_ones(stem, with_body, exported):
    more = [] if with_body else [("grad", "float64")]
    for graph, dtype in [("value", "float16"), ("vjp", "float32"), *more]:
        made = exported(stem)[graph, dtype]
        proto = onnx.load_from_string(to_bytes(made))
        inputs = inputs_of(proto)
        want = run(proto, *inputs)
        if not with_body:
            del proto.functions[:]
        after, changes = lowered(proto, "tvm" if with_body else "onnxruntime")
        assert [opset.domain for opset in after.opset_import] == [""]
        assert "the import of ai.gatewave is no longer needed" in [c.what for c in changes]
        assert not after.functions
        for got, expected in zip(run(after, *inputs), want, strict=True):
            np.testing.assert_array_equal(got, expected)


def inputs_of(proto):
    """Return values for the inputs without a default."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    ports = [port for port in proto.graph.input if port.name not in defaults]
    kinds = [onnx.helper.tensor_dtype_to_np_dtype(p.type.tensor_type.elem_type) for p in ports]
    return [
        (4 * np.random.default_rng(index).standard_normal(64)).astype(dtype)
        for index, dtype in enumerate(kinds)
    ]


def test_a_function_with_a_kernel_stays_where_functions_run(exported):
    made = exported("swish")["value", "float32"]
    proto = onnx.load_from_string(to_bytes(made))
    after, changes = lowered(proto, "onnxruntime")
    assert changes == []
    assert op_types(after) == ["Swish"]
    assert len(after.functions) == 1


def test_real_parameters_may_be_attributes():
    text = "g (float[n] x) => (float[n] y) { y = ai.gatewave.Swish <alpha = 1.5> (x) }"
    after, _ = lowered(model(text, 17, imports=', "ai.gatewave" : 1'), "onnxruntime")
    x = WINDOWS.ravel()
    (got,) = run(after, x)
    want = ACTIVATIONS["swish"].operators[0].build(alpha=1.5)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


CONTRIBUTED = {
    "QuickGelu": "y = com.microsoft.QuickGelu (x)",
    "QuickGelu with alpha": "y = com.microsoft.QuickGelu <alpha = 0.5> (x)",
    "Gelu": "y = com.microsoft.Gelu (x)",
    "BiasGelu": "y = com.microsoft.BiasGelu (x, b)",
    "FastGelu": "y = com.microsoft.FastGelu (x)",
    "FastGelu with bias": "y = com.microsoft.FastGelu (x, b)",
}


@pytest.mark.parametrize("written", CONTRIBUTED)
def test_contributed_operators_become_standard_ones(written):
    text = (
        "g (float[n, 4] x) => (float[n, 4] y) <float[4] b = {1.0, -1.0, 0.5, 2.0}> "
        f"{{ {CONTRIBUTED[written]} }}"
    )
    proto = model(text, 20, imports=', "com.microsoft" : 1')
    after, _ = lowered(proto, "iree")
    assert {node.domain for node in after.graph.node} == {""}
    assert [opset.domain for opset in after.opset_import] == [""]
    np.testing.assert_allclose(run(after, WINDOWS), run(proto, WINDOWS), rtol=1e-4, atol=1e-5)


def test_contributed_operators_are_bridged_under_their_own_domain():
    text = (
        "g (bfloat16[n, 4] x) => (bfloat16[n, 4] y) "
        "{ y = com.microsoft.QuickGelu <alpha = 0.5> (x) }"
    )
    after, (change,) = lowered(model(text, 17, imports=', "com.microsoft" : 1'), "onnxruntime")
    assert change.what.startswith("QuickGelu in float32")
    (drawn,) = (node for node in after.graph.node if node.op_type != "Cast")
    assert (drawn.domain, drawn.attribute[0].f) == ("com.microsoft", 0.5)


def test_the_clamped_swiglu_is_written_out_and_the_packed_one_is_refused():
    imports = ', "com.microsoft" : 1'
    attributes = "<limit = 2.0, activation_alpha = 1.5, activation_beta = 1.0>"
    text = (
        "g (float[n, 4] a, float[n, 4] b) => (float[n, 4] y) "
        f"{{ y = com.microsoft.SwiGLU {attributes} (a, b) }}"
    )
    after, _ = lowered(model(text, 20, imports=imports), "onnxruntime")
    a, b = WINDOWS, WINDOWS[:, ::-1].copy()
    gate, up = np.minimum(a, 2), np.clip(b, -2, 2)
    want = gate / (1 + np.exp(-1.5 * gate)) * (up + 1)
    np.testing.assert_allclose(run(after, a, b)[0], want, rtol=1e-5, atol=1e-6)
    packed = "g (float[n, 4] a) => (float[n, 2] y) { y = com.microsoft.SwiGLU (a) }"
    with pytest.raises(TargetError, match=r"does not run com\.microsoft::SwiGLU"):
        lower(ir.from_proto(model(packed, 20, imports=imports)), targets.find("onnxruntime"))


def test_an_attribute_that_the_caller_gives_is_not_taken_for_its_default():
    text = """g (float[n, 4] x) => (float[n, 4] y) { y = Own.F <alpha = 3.0> (x) }
        <domain: "Own", opset_import: ["" : 24]>
        F <alpha> (a) => (b) { b = Swish <alpha: float = @alpha> (a) }"""
    proto = model(text, 24, imports=', "Own" : 1')
    after, _ = lowered(proto, "tract")
    assert op_types(after) == ["Mul", "Sigmoid", "Mul"]
    np.testing.assert_allclose(run(after, WINDOWS), run(proto, WINDOWS), rtol=1e-5, atol=1e-6)
    plain = text.replace("<alpha>", "").replace("<alpha: float = @alpha>", "")
    kept = lowered(model(plain.replace("<alpha = 3.0>", ""), 24, imports=', "Own" : 1'), "tract")
    assert "Swish" in op_types(kept[0])


NESTED = """
g (float[n, 4] x, bool flag, int64 trips) => (float[n, 4] y, float[n, 4] z)
{
  y = If (flag) <
    then_branch = then () => (float[n, 4] t) { t = Swish <alpha = 2.0> (x) },
    else_branch = other () => (float[n, 4] e) { e = Own.Gate (x) }
  >
  z = Loop (trips, flag, x) <
    body = body (int64 i, bool go, float[n, 4] state) => (bool again, float[n, 4] next)
    { again = Identity (go) s = Swish (state) next = Own.Gate (s) }
  >
}
<domain: "Own", opset_import: ["" : 28]> Gate (a) => (b) { s = Swish (a) b = Mul (s, a) }
"""


@pytest.mark.parametrize("target", ["onnxruntime-1.31", "onnxruntime-1.32", "tvm"])
def test_bodies_and_functions_are_lowered_too(target):
    proto = model(NESTED, 28, imports=', "Own" : 1')
    after, changes = lowered(proto, target)
    assert not after.functions
    assert {"": 1}.keys() == {opset.domain for opset in after.opset_import}
    assert {c.scope for c in changes} >= {"If_0/then_branch", "If_0/else_branch", "Loop_1/body"}
    for flag in (True, False):
        inputs = (WINDOWS, np.array(flag), np.array(2))
        for got, want in zip(run(after, *inputs), evaluate(proto, *inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_the_annotation_of_a_quantised_value_stays():
    proto = model("g (float[n] x) => (float[n] w) <float s = {0.5}> {y = Swish (x) w = Exp (y)}")
    annotation = proto.graph.quantization_annotation.add(tensor_name="y")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    after, changes = lowered(proto, "onnxruntime-1.31")
    assert "swish" in {change.kind for change in changes}
    assert list(after.graph.quantization_annotation) == [annotation]


def test_names_and_metadata_stay():
    proto = unary("Swish")
    node = proto.graph.node[0]
    node.name = "act"
    node.metadata_props.add(key="layer", value="7")
    node.doc_string = "the gate"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.doc_string = "kept"
    after, _ = lowered(proto, "onnxruntime")
    assert {n.name.partition("/")[0] for n in after.graph.node} == {"act"}
    assert len({n.name for n in after.graph.node}) == len(after.graph.node)
    assert [(p.key, p.value) for n in after.graph.node for p in n.metadata_props] == [
        ("layer", "7")
    ] * len(after.graph.node)
    assert {n.doc_string for n in after.graph.node} == {"the gate"}
    assert (after.metadata_props, after.graph.doc_string) == (proto.metadata_props, "kept")
    assert after.graph.output == proto.graph.output


def test_constants_are_typed_initialisers_with_their_bytes():
    after, _ = lowered(unary("Swish <alpha = 2.0>", "float16"), "onnxruntime")
    (alpha,) = after.graph.initializer
    assert alpha.data_type == onnx.TensorProto.FLOAT
    assert alpha.raw_data == np.float32(2).tobytes()


def test_an_element_type_that_nobody_knows_is_asked_for():
    text = (
        "g (float[n] x) => (float[n] y) "
        "{ h = Foreign.Thing (x) s = Swish (h) y = Foreign.Thing (s) }"
    )
    proto = model(text, 28, imports=', "Foreign" : 1')
    with pytest.raises(TargetError, match=r"Swish .*element type.*not known"):
        lower(ir.from_proto(proto), targets.find("onnxruntime"))


def test_what_cannot_be_helped_is_named():
    with pytest.raises(TargetError, match=r"Hardmax at opset 20 in float64"):
        lower(ir.from_proto(unary("Hardmax", "double", opset=20)), targets.find("onnxruntime"))
    text = "g (float[n] x) => (float[n] y) { y = ai.gatewave.Sinc (x) }"
    proto = model(text, 17, imports=', "ai.gatewave" : 1')
    with pytest.raises(TargetError, match=r"Where"):
        lower(ir.from_proto(proto), targets.find("ncnn"))


def test_operators_of_unknown_domains_are_left_and_said_to_be_unknown():
    text = "g (float[n] x) => (float[n] y) { y = Foreign.Thing (x) }"
    proto = model(text, 20, imports=', "Foreign" : 1')
    known = ir.from_proto(proto)
    for name in ("onnxruntime", "iree"):
        assert lower(known, targets.find(name)).changes == []
        (problem,) = problems(known, targets.find(name))
        assert (problem.node, problem.operator, problem.known) == ("y", "Foreign::Thing", False)
        assert "it is not known whether" in problem.why
    functions = """g (float[n] x) => (float[n] y) { y = Foreign.Thing (x) }
        <domain: "Foreign", opset_import: ["" : 20]> Thing (a) => (b) { b = Relu (a) }"""
    holding = functions.replace("Relu (a)", "Other.Thing (a)").replace(
        '["" : 20]', '["" : 20, "Other" : 1]'
    )
    kept = ir.from_proto(model(holding, 20, imports=', "Foreign" : 1'))
    assert lower(kept, targets.find("onnxruntime")).changes == []
    own = ir.from_proto(model(functions, 20, imports=', "Foreign" : 1'))
    assert problems(own, targets.find("onnxruntime")) == []


def test_operators_of_onnx_runtime_s_own_are_known_to_run_where_they_were_tried():
    text = "g (float[2, 4] x) => (float[2, 4] y) { y = com.microsoft.Inverse (x) }"
    proto = ir.from_proto(model(text, 20, imports=', "com.microsoft" : 1'))
    assert problems(proto, targets.find("onnxruntime")) == []
    for name in ("onnxruntime-web", "openvino"):
        assert [p.known for p in problems(proto, targets.find(name))] == [False]


NEAR_0 = np.array([0, -0.0, 1e-44, 1e-40, 1e-20, 0.5, -1.3, 2.0], np.float32)
SINC = """
g (float[n] x) => (float[n] y)
<float pi = {3.1415927}, float zero = {0.0}, double wide = {0.0}, float one = {1.0},
 float[8] ones = {1, 1, 1, 1, 1, 1, 1, 1}>
{ t = Mul (pi, x) s = Sin (t) q = Div (s, t) WRITTEN }
"""
SINCS = {
    "of the angle": "e = Equal (t, zero) y = Where (e, one, q)",
    "of x": "e = Equal (x, zero) y = Where (e, one, q)",
    "commuted": "e = Equal (zero, x) y = Where (e, one, q)",
    "negated": "e = Equal (x, zero) n = Not (e) y = Where (n, q, one)",
    "cast": "w = Cast <to = 11> (x) e = Equal (w, wide) y = Where (e, one, q)",
    "a tensor": "e = Equal (x, zero) y = Where (e, ones, q)",
}


@pytest.mark.parametrize("written", SINCS)
def test_sinc_gets_the_form_that_is_right_near_0_where_the_usual_one_is_not(written):
    proto = model(SINC.replace("WRITTEN", SINCS[written]), 17, ir_version=8)
    after, changes = lowered(proto, "openvino")
    assert [c.what for c in changes] == ["the form of Sinc that is right near 0"]
    np.testing.assert_array_equal(run(after, NEAR_0), run(proto, NEAR_0))
    assert not {"Equal", "Not", "Cast"} & {*op_types(after)}  # only the other form needed them
    assert op_types(after).count("Div") == 1
    assert lowered(proto, "onnxruntime")[1] == []


SINCLESS = {
    "another value at 0": "e = Equal (x, zero) y = Where (e, zero, q)",
    "another place": "e = Equal (x, one) y = Where (e, one, q)",
    "another test": "e = Less (x, zero) y = Where (e, one, q)",
    "another quotient": "r = Div (s, x) e = Equal (x, zero) y = Where (e, one, r)",
    "another number": "h = Mul (x, x) e = Equal (h, zero) y = Where (e, one, q)",
}


@pytest.mark.parametrize("written", SINCLESS)
def test_what_is_no_sinc_is_left_alone(written):
    proto = model(SINC.replace("WRITTEN", SINCLESS[written]), 17, ir_version=8)
    assert lowered(proto, "openvino")[1] == []


def test_a_model_without_standard_operators_gets_their_import():
    text = "<ir_version: 8, opset_import: ['ai.gatewave' : 1]> g (float[n] x) => (float[n] y) "
    proto = parser.parse_model(text.replace("'", '"') + "{ y = ai.gatewave.Sigmoid (x) }")
    after, _ = lowered(proto, "onnxruntime")
    assert [(o.domain, o.version) for o in after.opset_import] == [("", 17)]
    np.testing.assert_allclose(run(after, WINDOWS.ravel())[0][3], 0.5)
