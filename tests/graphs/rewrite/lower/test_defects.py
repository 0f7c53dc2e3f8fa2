"""Forms that a target gets wrong: they get another form, and look-alikes stay."""

import numpy as np
import pytest
from lowering import lowered, model, op_types, run, unary

SILUS = {
    "bare": "s = Sigmoid (x) y = Mul (x, s)",
    "commuted": "s = Sigmoid (x) y = Mul (s, x)",
    "scaled": (
        "c = Constant <value = double {1.702}> () u = Mul (c, x) s = Sigmoid (u) y = Mul (x, s)"
    ),
}


@pytest.mark.parametrize("written", SILUS)
def test_float64_silu_gets_equal_unfused_form(written):
    proto = model(f"g (double[n, 4] x) => (double[n, 4] y) {{ {SILUS[written]} }}", opset=20)
    after, (change,) = lowered(proto, "onnxruntime-1.30")
    assert op_types(after)[-3:] == ["Neg", "Mul", "Neg"]
    assert change.what == "-(-x · σ(αx)), which is not misfused"
    x = np.linspace(-800, 800, 4004).reshape(-1, 4)
    np.testing.assert_array_equal(run(after, x)[0], run(proto, x)[0])
    assert lowered(proto, "onnxruntime-1.31")[1] == []


def test_float64_swish_is_lowered_to_unfused_form():
    after, changes = lowered(unary("Swish", "double"), "onnxruntime-1.30")
    assert op_types(after) == ["Sigmoid", "Neg", "Mul", "Neg"]
    assert [c.output for c in changes if c.output] == ["y", "y"]


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
def test_naive_sinc_gets_form_right_near_0(written):
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
def test_lookalikes_of_sinc_stay(written):
    proto = model(SINC.replace("WRITTEN", SINCLESS[written]), 17, ir_version=8)
    assert lowered(proto, "openvino")[1] == []


def test_initializers_of_replaced_nodes_are_removed():
    proto = model(SINC.replace("WRITTEN", SINCS["of x"]), 17, ir_version=8)
    after, _ = lowered(proto, "openvino")
    names = {tensor.name for tensor in after.graph.initializer}
    assert "zero" not in names
    assert {"wide", "ones"} <= names  # unused before, too
