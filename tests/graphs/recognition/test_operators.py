"""Activations that are one node: of ONNX, of ONNX Runtime, or ours."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from recognised import found

from gatewave.export.operators import decomposed
from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.sites import sites

STANDARD = {
    "swish": (24, "Swish", {"alpha": 1.702}, {"alpha": 1.702}),
    "gelu": (20, "Gelu", {}, {}),
    "gelu-tanh": (20, "Gelu", {"approximate": "tanh"}, {}),
    "mish": (18, "Mish", {}, {}),
    "hardswish": (14, "HardSwish", {}, {}),
    "hardsigmoid": (6, "HardSigmoid", {}, {"alpha": 0.2, "beta": 0.5}),
    "leaky-relu": (16, "LeakyRelu", {"alpha": 0.2}, {"alpha": 0.2}),
    "elu": (6, "Elu", {}, {"alpha": 1.0}),
    "selu": (6, "Selu", {}, {}),
    "softplus": (1, "Softplus", {}, {}),
    "tanh": (6, "Tanh", {}, {}),
}


@pytest.mark.parametrize("kind", STANDARD)
def test_standard_operators_have_their_kind(kind):
    opset, op_type, attributes, reals = STANDARD[kind]
    (site,) = sites(drawn(lambda op, x: op.node(op_type, [x], **attributes), opset=max(opset, 7)))
    assert (site.kind, site.written, dict(site.reals)) == (kind, "standard", reals)


def test_standard_swiglu_has_its_alpha():
    model = drawn(lambda op, a, b: op.SwiGLU(a, b, alpha=2.0), inputs=2, opset=28)
    (site,) = sites(model)
    assert (site.kind, dict(site.reals)) == ("swiglu-linear", {"alpha": 2.0})
    assert site.written == "standard"


CONTRIB = {
    "QuickGelu": ("swish", {"alpha": 1.702}),
    "Gelu": ("gelu", {}),
    "FastGelu": ("gelu-tanh", {}),
}


@pytest.mark.parametrize("op_type", CONTRIB)
def test_contributed_operators_have_their_kind(op_type):
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.node(op_type, [x], domain="com.microsoft"))
    (site,) = sites(drawing.model(domains=["com.microsoft"]))
    assert (site.kind, dict(site.reals)) == CONTRIB[op_type]
    assert site.written == "contrib"


BIASED = {"FastGelu": "gelu-tanh", "BiasGelu": "gelu"}


def _biased(op_type, bias="row", *, gated=False):
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    given = {
        "row": lambda: drawing.tensor(np.array([1, -2, 3, 0.5], np.float32)),
        "zeros": lambda: drawing.tensor(np.zeros(4, np.float32)),
        "computed": lambda: drawing.ReduceMean(y, axes=[0], keepdims=0),
    }[bias]()
    made = drawing.node(op_type, [x, given], domain="com.microsoft")
    drawing.output(drawing.Mul(made, y) if gated else made, "out")
    return drawing.model(domains=["com.microsoft"])


@pytest.mark.parametrize("bias", ["row", "zeros", "computed"])
@pytest.mark.parametrize("op_type", BIASED)
def test_contributed_gelus_keep_their_bias(op_type, bias):
    (site,) = sites(_biased(op_type, bias))
    assert (site.kind, site.written) == (BIASED[op_type], "contrib")
    assert [value.name for value in site.inputs] == ["x"]
    assert [*site.biases] == [*site.inputs]


@pytest.mark.parametrize("op_type", BIASED)
def test_gated_biased_gelu_is_geglu(op_type):
    (site,) = sites(_biased(op_type, gated=True))
    assert site.kind == {"FastGelu": "geglu-tanh", "BiasGelu": "geglu"}[op_type]
    assert [value.name for value in site.inputs] == ["x", "y"]
    assert [value.name for value in site.biases] == ["x"]


def test_biased_gelu_depends_on_its_sum():
    drawing = Drawing()
    x = drawing.input("x")
    made = drawing.node("BiasGelu", [drawing.Relu(x), x], domain="com.microsoft")
    drawing.output(drawing.Mul(made, x), "out")
    model = drawing.model(domains=["com.microsoft"])
    assert [site.kind for site in sites(model)] == ["relu", "geglu"]


@pytest.mark.parametrize(
    ("attributes", "alpha"),
    [
        ({}, 1.0),
        ({"activation_alpha": 1.702}, 1.702),
        ({"activation_beta": 1.0}, None),
        ({"limit": 7.0}, None),
        ({"round_activation": 1}, None),
    ],
)
def test_contributed_swiglu_must_not_clamp(attributes, alpha):
    drawing = Drawing()
    a, b = drawing.input("a"), drawing.input("b")
    drawing.output(drawing.node("SwiGLU", [a, b], domain="com.microsoft", **attributes))
    expected = [] if alpha is None else [("swiglu-linear", {"alpha": alpha})]
    assert found(drawing.model(domains=["com.microsoft"])) == expected


def test_exported_graphs_in_both_forms(case, exported, dtype):
    activation, operator = case
    stem = activation.stem(operator)
    kind = {"geglu-none": "geglu"}.get(stem, stem)
    # Not the shared one: inference gives names to what has none.
    model = ir.from_proto(ir.to_proto(exported(stem)["value", dtype]))
    if stem == "bilinear":
        assert found(model) == found(decomposed(model)) == []
        return
    reals = KINDS[kind].reals
    for form, written in ((model, "function"), (decomposed(model), "decomposed")):
        (site,) = sites(form)
        assert (site.kind, dict(site.reals)) == (kind, reals)
        assert site.written in {written, "standard"}
        assert set(site.parameters) == set(reals)


def test_our_node_without_its_function():
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.node("Swish", [x], domain="ai.gatewave", alpha=1.5))
    (site,) = sites(drawing.model(domains=["ai.gatewave"]))
    assert (site.kind, dict(site.reals), site.written) == ("swish", {"alpha": 1.5}, "operator")


def test_gelu_with_unknown_attribute_is_none():
    model = drawn(lambda op, x: op.Gelu(x, approximate="sigmoid"), opset=20)
    assert found(model) == []
