"""Near misses: each is listed with its reason, and no nonlinear operator is omitted."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn

from gatewave.graphs.recognition.near_misses import near_misses
from gatewave.graphs.recognition.sites import sites, survey


def missed(model):
    return [(miss.site.kind, miss.reason) for miss in near_misses(survey(model))]


ROOT_2 = math.sqrt(2)
GELU_SLOPE = math.sqrt(2 / math.pi)


def _gelu(op, x, root=ROOT_2):
    return op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, root)), 1.0))


def _tanh_gelu(op, x, slope=GELU_SLOPE, cubic=0.044715):
    angle = op.Mul(slope, op.Add(x, op.Mul(cubic, op.Pow(x, 3.0))))
    return op.Mul(op.Mul(0.5, x), op.Add(1.0, op.Tanh(angle)))


def _sinc(op, x, pi):
    angle = op.Mul(x, pi)
    return op.Where(op.Equal(x, 0.0), 1.0, op.Div(op.Sin(angle), angle))


CONSTANTS = {
    "a root": (lambda op, x: _gelu(op, x, 1.41421), "gelu", ["1.414", "1.4142135623730951"]),
    "a cubic": (lambda op, x: _tanh_gelu(op, x, cubic=0.0447), "gelu-tanh", ["0.0447", "0.044715"]),
    "two": (
        lambda op, x: _tanh_gelu(op, x, slope=0.7978, cubic=0.0447),
        "gelu-tanh",
        ["0.7978", "0.7978845608028654", "0.044715"],
    ),
    "pi": (lambda op, x: _sinc(op, x, 3.1416), "sinc", ["3.14159", "3.141592653589793"]),
    "a sixth": (
        lambda op, x: op.Mul(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 0.1666),
        "hardswish",
        ["0.1666", "0.16666666666666666"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", CONSTANTS)
def test_slightly_wrong_constant_is_named(wrong):
    write, kind, words = CONSTANTS[wrong]
    misses = [reason for name, reason in missed(drawn(write)) if name == kind]
    (reason,) = misses
    assert reason.startswith("the constant differs: ")
    assert all(word in reason for word in words)


def test_constant_rounded_to_float32_is_named():
    # As torch.onnx.export writes the float64 sinc.
    model = drawn(lambda op, x: _sinc(op, x, float(np.float32(math.pi))), dtype="float64")
    ((kind, reason),) = missed(model)
    assert (kind, "3.1415927410125732, expected 3.141592653589793" in reason) == ("sinc", True)


def _row(op, *numbers):
    return op.tensor(np.array(numbers, np.float32))


def _of_rows(op, x, *, alpha=None, bias=None):
    angle = x if alpha is None else op.Mul(x, alpha)
    return op.Mul(x, op.Sigmoid(angle if bias is None else op.Add(angle, bias)))


def test_an_alpha_for_each_channel_is_named():
    model = drawn(lambda op, x: _of_rows(op, x, alpha=_row(op, 1, 2, 3, 4.5)))
    assert [site.kind for site in sites(model)] == ["sigmoid"]
    assert missed(model) == [("swish", "its alpha varies per channel, from 1 to 4.5 in 4")]


def test_a_row_that_is_added_inside_is_named():
    model = drawn(lambda op, x: _of_rows(op, x, bias=_row(op, 1, 2, 3, 4.5)))
    ((kind, reason),) = missed(model)
    assert kind == "swish"
    assert reason.endswith(", a row of weights, is added inside")


def test_row_added_after_is_no_near_miss():
    model = drawn(lambda op, x: op.Add(_of_rows(op, x), _row(op, 1, 2, 3, 4)))
    assert [site.kind for site in sites(model)] == ["swish"]
    assert missed(model) == []


def test_a_swish_that_is_quantised_inside_is_named():
    def write(op, x):
        scale, zero = op.number(0.1), op.tensor(np.array(0, np.uint8))
        wide = op.DequantizeLinear(op.QuantizeLinear(op.Sigmoid(x), scale, zero), scale, zero)
        return op.Mul(x, wide)

    ((kind, reason),) = missed(drawn(write))
    assert (kind, reason) == ("swish", "it is quantised inside, by QuantizeLinear_1")


def test_a_narrowing_cast_inside_is_named():
    def write(op, x):
        gate = op.Sigmoid(op.cast(op.cast(x, "float16"), "float32"))
        return op.Mul(x, gate)

    ((kind, reason),) = missed(drawn(write))
    assert (kind, reason) == ("swish", "a cast inside, of FLOAT to FLOAT16, loses digits")


def test_broadcast_gate_is_no_near_miss():
    # The gate of a channel attention, which half of all networks for pictures have.
    drawing = Drawing(shape=(1, 3, 8, 8))
    x = drawing.input("x")
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.GlobalAveragePool(x))))
    assert missed(drawing.model()) == []


@pytest.mark.parametrize("op_type", ["Erf", "Erfc"])
def test_an_error_function_alone_is_listed(op_type):
    model = drawn(lambda op, x: op.Softmax(op.node(op_type, [x])))
    ((kind, reason),) = missed(model)
    assert (kind, reason) == (
        op_type.lower(), f"this {op_type} is not part of a known activation",
    )  # fmt: skip


def test_an_activation_of_integers_is_listed():
    drawing = Drawing(dtype="int64")
    drawing.output(drawing.Relu(drawing.input("x")), "out")
    ((kind, reason),) = missed(drawing.model())
    assert (kind, reason) == ("relu", "its element type is INT64")


def test_a_form_that_is_not_known_is_listed():
    model = drawn(lambda op, x: op.Gelu(x, approximate="sigmoid"), opset=20)
    ((kind, reason),) = missed(model)
    assert (kind, "not part of a known activation" in reason) == ("gelu", True)


def _contributed(op_type, *, domain="com.microsoft", inputs=1, **attributes):
    drawing = Drawing()
    given = [drawing.input(f"x{n}") for n in range(inputs)]
    drawing.output(drawing.node(op_type, given, domain=domain, **attributes))
    return drawing.model(domains=[domain])


EMBEDDED = {
    "FusedConv": ("FusedConv", {"activation": "HardSigmoid"}, ["hardsigmoid"]),
    "FusedConv, leaky": ("FusedConv", {"activation": "LeakyRelu"}, ["leaky-relu"]),
    "FusedGemm": ("FusedGemm", {"activation": "Relu"}, ["relu"]),
    "FusedMatMulActivation": ("FusedMatMulActivation", {"activation": "Tanh"}, ["tanh"]),
    "MoE": ("MoE", {"activation_type": "silu", "activation_alpha": 1.0}, ["swish"]),
    "GroupNorm with SiLU": ("GroupNorm", {"activation": 1}, ["swish"]),
    "GroupNorm": ("GroupNorm", {"activation": 0}, []),
    "CausalConvWithState": ("CausalConvWithState", {"activation": "none"}, []),
    "QLinearSigmoid": ("QLinearSigmoid", {}, ["sigmoid"]),
    "QLinearLeakyRelu": ("QLinearLeakyRelu", {"alpha": 0.1}, ["leaky-relu"]),
    "BiasSplitGelu": ("BiasSplitGelu", {}, ["geglu"]),
}


@pytest.mark.parametrize("written", EMBEDDED)
def test_activations_of_fused_operators_are_listed(written):
    op_type, attributes, kinds = EMBEDDED[written]
    misses = missed(_contributed(op_type, inputs=2, **attributes))
    assert [kind for kind, _ in misses] == kinds
    assert all(reason.startswith(f"{op_type} computes it") for _, reason in misses)


def test_fused_convolution_of_internal_layout_is_listed():
    model = _contributed("Conv", domain="com.microsoft.nchwc", inputs=2, activation="Relu")
    assert [kind for kind, _ in missed(model)] == ["relu"]


@pytest.mark.parametrize(
    ("op_type", "attributes", "kinds"),
    [
        ("LSTM", {}, ["sigmoid", "tanh"]),
        ("GRU", {}, ["sigmoid", "tanh"]),
        ("RNN", {}, ["tanh"]),
        ("RNN", {"activations": ["Relu"]}, ["relu"]),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Softsign"]},
         ["hardsigmoid", "tanh", "softsign"]),
    ],
)  # fmt: skip
def test_activations_of_recurrent_operators_are_listed(op_type, attributes, kinds):
    drawing = Drawing()
    given = [drawing.input(name, (1, 1, 1)) for name in ("x", "w", "r")]
    drawing.output(drawing.node(op_type, given, hidden_size=1, **attributes), shape=(1, 1, 1, 1))
    misses = missed(drawing.model())
    assert [kind for kind, _ in misses] == kinds
    assert all("no node can be replaced" in reason for _, reason in misses)


def test_near_misses_are_in_graph_order():
    drawing = Drawing()
    x = drawing.input("x")
    first = _gelu(drawing, x, 1.4142)
    drawing.output(_tanh_gelu(drawing, drawing.Softmax(first), cubic=0.0447), "out")
    assert [kind for kind, _ in missed(drawing.model()) if "gelu" in kind] == ["gelu", "gelu-tanh"]


def test_nodes_of_near_miss_are_not_listed():
    model = drawn(lambda op, x: _gelu(op, x, 1.4142))
    assert [kind for kind, _ in missed(model)] == ["gelu"]


def test_the_model_is_left_as_it_was():
    model = drawn(lambda op, x: _gelu(op, x, 1.4142))
    before = ir.to_proto(model).SerializeToString()
    missed(model)
    assert ir.to_proto(model).SerializeToString() == before
