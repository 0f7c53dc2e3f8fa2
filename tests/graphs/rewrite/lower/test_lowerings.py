"""Activations written in other operators: the results that ONNX, ONNX Runtime or we define."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from lowering import WINDOWS, evaluate, lowered, model, op_types, run, unary
from records import CASES

from gatewave.export.operators import to_bytes
from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.models import ACTIVATIONS

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
def test_lowered_activations_match_onnx(op, target):
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


def test_swish_is_lowered_if_alpha_is_ignored():
    assert op_types(lowered(unary("Swish"), "tract")[0]) == ["Swish"]
    after, (change,) = lowered(unary("Swish <alpha = 2.0>"), "tract")
    assert op_types(after) == ["Mul", "Sigmoid", "Mul"]
    assert change.what == "Swish → Mul, Sigmoid, Mul"
    assert change.output == "y"


def test_swiglu_takes_its_gate_first():
    proto = model(
        "g (float[n, 4] a, float[n, 4] b) => (float[n, 4] y) { y = SwiGLU <alpha = 0.5> (a, b) }"
    )
    after, _ = lowered(proto, "onnxruntime-1.31")
    want = evaluate(proto, WINDOWS, WINDOWS[::-1].copy())
    got = run(after, WINDOWS, WINDOWS[::-1].copy())
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert after.opset_import[0].version == 26


def test_lowered_swish_is_fused_by_onnxruntime(tmp_path):
    for op, fused in (("Swish", "QuickGelu"), ("Swish <alpha = 1.702>", "QuickGelu")):
        after, _ = lowered(unary(op), "onnxruntime")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(after.SerializeToString(), options, providers=["CPUExecutionProvider"])
        assert op_types(onnx.load(tmp_path / "optimised.onnx")) == [fused]


def test_float16_is_computed_in_float32():
    x = np.arange(-(2**15), 2**15, dtype=np.int32).astype(np.int16).view(np.float16)
    x = x[np.isfinite(x)].reshape(-1, 4)
    after, _ = lowered(unary("Mish", "float16", opset=22), "litert")
    wide = evaluate(unary("Mish", "double", opset=22), x.astype(np.float64))[0]
    got = run(after, x)[0]
    np.testing.assert_allclose(got, wide.astype(np.float16), rtol=1e-3, atol=1e-7)


def test_change_names_the_casts():
    _, changes = lowered(unary("Swish", "float16"), "onnxruntime")
    assert [c.what for c in changes] == [
        "Swish → Sigmoid, Mul, cast from float16 to float32 and back"
    ]


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


def test_our_function_stays_if_functions_run(exported):
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


def test_clamped_swiglu_is_lowered_and_packed_one_refused():
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


def test_attribute_from_caller_is_not_its_default():
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
