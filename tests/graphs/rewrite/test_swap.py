"""Swap of one activation for another, at the selected nodes only."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from drawing import Drawing, drawn
from running import check_same, run
from torch.nn import functional

from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.swap import swap

POINTS = np.linspace(-4, 4, 24, dtype=np.float32).reshape(6, 4)

TORCH = {
    "relu": torch.relu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu-tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": functional.mish,
    "hardswish": functional.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
    "relu6": functional.relu6,
    "leaky-relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "sinc": torch.sinc,
    "celu": functional.celu,
    "thresholded-relu": lambda x: functional.threshold(x, 1.0, 0.0),
    "squared-relu": lambda x: torch.relu(x) ** 2,
    "hardtanh": functional.hardtanh,
    "softsign": functional.softsign,
    "log-sigmoid": functional.logsigmoid,
    "tanhshrink": functional.tanhshrink,
    "hardshrink": functional.hardshrink,
    "softshrink": functional.softshrink,
    "swoosh-l": lambda x: functional.softplus(x - 4) - 0.08 * x - 0.035,
    "swoosh-r": lambda x: functional.softplus(x - 1) - 0.08 * x - 0.313261687,
    "snake": lambda x: x + torch.sin(x) ** 2,
    "snake-beta": lambda x: x + torch.sin(x) ** 2 / 0.5,
    "lisht": lambda x: x * torch.tanh(x),
    "tanh-exp": lambda x: x * torch.tanh(torch.exp(x)),
    "logish": lambda x: x * torch.log(1 + torch.sigmoid(x)),
    "smish": lambda x: x * torch.tanh(torch.log(1 + torch.sigmoid(x))),
    "serf": lambda x: x * torch.erf(functional.softplus(x)),
}

SAME = {"celu": "elu"}
"""Kinds that equal another kind with its default parameters."""


def swapped(model, **options):
    copy = ir.from_proto(ir.to_proto(model))
    return copy, swap(copy, **options)


@pytest.mark.parametrize("opset", [13, 17, 20, 24])
@pytest.mark.parametrize("to", [kind for kind in TORCH if kind != "relu"])
def test_relu_becomes_any_other(to, opset):
    model, outcome = swapped(drawn(lambda op, x: op.Relu(x), opset=opset), source="relu", to=to)
    assert [change.kind for change in outcome.changes] == ["relu"]
    (got,) = run(model, {"x": POINTS})
    np.testing.assert_allclose(got, TORCH[to](torch.tensor(POINTS)).numpy(), atol=2e-6)
    assert [site.kind for site in sites(model)] == [SAME.get(to, to)]


@pytest.mark.parametrize("to", [kind for kind in TORCH if kind != "tanh"])
def test_any_becomes_tanh_however_it_is_written(to):
    relu = drawn(lambda op, x: op.Relu(x), opset=20)
    model, _ = swapped(relu, source="relu", to=to)
    back, outcome = swapped(model, source=SAME.get(to, to), to="tanh")
    assert len(outcome.changes) == 1
    assert [node.op_type for node in back.graph] == ["Tanh"]
    assert not back.functions


def test_standard_operator_is_used_if_opset_has_it():
    for opset, operators in ((20, ["Gelu"]), (24, ["Gelu"])):
        model, _ = swapped(drawn(lambda op, x: op.Relu(x), opset=opset), source="relu", to="gelu")
        assert [node.op_type for node in model.graph] == operators
        assert not model.functions


def test_ours_is_taken_where_it_has_not():
    model, _ = swapped(drawn(lambda op, x: op.Relu(x), opset=18), source="relu", to="silu")
    assert [(n.domain, n.op_type) for n in model.graph] == [("ai.gatewave", "Swish")]


def test_formula_is_used_without_any_operator():
    model, _ = swapped(drawn(lambda op, x: op.Relu(x), opset=13), source="relu", to="mish")
    assert {n.domain for n in model.graph} == {""}
    assert model.graph[-1].outputs[0].name == "out"


def test_formula_of_float16_computes_in_float32():
    original = drawn(lambda op, x: op.Relu(x), opset=13, dtype="float16")
    model, _ = swapped(original, source="relu", to="mish")
    assert [n.op_type for n in model.graph].count("Cast") == 2
    (got,) = run(model, {"x": POINTS.astype(np.float16)})
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, TORCH["mish"](torch.tensor(POINTS)).numpy(), atol=4e-3)


def test_names_choose_the_nodes():
    drawing = Drawing()
    value = drawing.input("x")
    for name in ("layer.1/act", "layer.2/act", "head/act"):
        value = drawing.Softmax(drawing.node("Relu", [value], name=name))
    drawing.output(value)
    model, outcome = swapped(drawing.model(), source="relu", to="swish", names=r"^layer\.[12]")
    assert len(outcome.changes) == 2
    assert [n.op_type for n in model.graph if n.op_type != "Softmax"] == ["Swish", "Swish", "Relu"]


def test_parameters_are_given():
    model, _ = swapped(
        drawn(lambda op, x: op.Relu(x)), source="relu", to="swish", reals={"alpha": 1.702}
    )
    assert [dict(site.reals) for site in sites(model)] == [{"alpha": 1.702}]


def test_an_alias_means_its_parameters_too():
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, 1.702))), "quick")
    drawing.output(drawing.Mul(x, drawing.Sigmoid(x)), "plain")
    model, outcome = swapped(drawing.model(), source="quick-gelu", to="gelu")
    assert [change.output for change in outcome.changes] == ["quick"]
    assert [site.kind for site in sites(model)] == ["gelu", "swish"]


def test_alias_matches_rounded_float64_alpha():
    original = drawn(lambda op, x: op.Swish(x, alpha=1.702), opset=24, dtype="float64")
    _, outcome = swapped(original, source="quick-gelu", to="gelu")
    assert len(outcome.changes) == 1


def test_float64_alpha_is_not_rounded_to_attribute():
    original = drawn(lambda op, x: op.Relu(x), opset=24, dtype="float64")
    for alpha, domain in ((1.702, "ai.gatewave"), (1.5, "")):
        model, _ = swapped(original, source="relu", to="swish", reals={"alpha": alpha})
        assert model.graph[0].domain == domain


def test_gated_units_are_exchanged():
    original = drawn(lambda op, a, b: op.Mul(op.Mul(a, op.Sigmoid(a)), b), inputs=2)
    model, _ = swapped(original, source="swiglu-linear", to="geglu")
    inputs = {"x": POINTS, "y": POINTS[::-1].copy()}
    (got,) = run(model, inputs)
    want = functional.gelu(torch.tensor(inputs["x"])).numpy() * inputs["y"]
    np.testing.assert_allclose(got, want, atol=2e-6)


GATED = {
    "glu": lambda gate, value: value * torch.sigmoid(gate),
    "swiglu-linear": lambda gate, value: functional.silu(gate) * value,
    "swiglu-sigmoid": lambda gate, value: functional.silu(gate) * torch.sigmoid(value),
    "geglu": lambda gate, value: functional.gelu(gate) * value,
    "reglu": lambda gate, value: torch.relu(gate) * value,
}

GATED_GRAPHS = {
    "glu": lambda op, gate, value: op.Mul(value, op.Sigmoid(gate)),
    "swiglu-linear": lambda op, gate, value: op.Mul(op.Mul(gate, op.Sigmoid(gate)), value),
    "swiglu-sigmoid": lambda op, gate, value: op.Mul(
        op.Mul(gate, op.Sigmoid(gate)), op.Sigmoid(value)
    ),
    "geglu": lambda op, gate, value: op.Mul(op.Gelu(gate), value),
    "reglu": lambda op, gate, value: op.Mul(op.Relu(gate), value),
}


@pytest.mark.parametrize("to", GATED)
@pytest.mark.parametrize("source", GATED_GRAPHS)
def test_swap_of_gated_units_keeps_the_gate(source, to):
    original = drawn(GATED_GRAPHS[source], inputs=2, opset=20)
    model, outcome = swapped(original, source=source, to=to)
    assert len(outcome.changes) == 1
    gate, value = POINTS, POINTS[::-1].copy()
    (got,) = run(model, {"x": gate, "y": value})
    want = GATED[to](torch.tensor(gate), torch.tensor(value)).numpy()
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_the_same_for_the_same_computes_the_same():
    original = drawn(lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, 1.5))))
    model, _ = swapped(original, source="swish", to="swish", reals={"alpha": 1.5})
    check_same(original, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nonsense", "to": "relu"}, "no activation is called 'nonsense'"),
        ({"source": "relu", "to": "swiglu"}, "relu takes 1 tensors, swiglu takes 2"),
        ({"source": "relu", "to": "gelu", "reals": {"beta": 1.0}}, "gelu has no beta"),
        ({"source": "relu", "to": "swish", "names": "("}, "is no regular expression"),
        (
            {"source": "relu", "to": "swish", "reals": {"alpha": np.nan}},
            "float32 can hold, not nan",
        ),
        (
            {"source": "relu", "to": "swish", "reals": {"alpha": np.inf}},
            "float32 can hold, not inf",
        ),
        (
            {"source": "relu", "to": "elu", "reals": {"alpha": 1e39}},
            r"float32 can hold, not 1e\+39",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        swap(drawn(lambda op, x: op.Relu(x)), **options)


def test_node_without_name_goes_by_output():
    drawing = Drawing()
    x = drawing.input("x")
    for name in ("one", "two"):
        drawing.output(drawing.Relu(x), name)
        drawing.nodes[-1].name = ""
    _, outcome = swapped(drawing.model(), source="relu", to="swish", names="^two$")
    assert [change.output for change in outcome.changes] == ["two"]


@pytest.mark.parametrize("to", ["hardswish", "relu6", "mish"])
def test_max_and_min_take_scalars_from_8(to):
    inputs = {"x": POINTS}
    model, outcome = swapped(drawn(lambda op, x: op.Relu(x), opset=7), source="relu", to=to)
    if outcome.changes:
        run(model, inputs)
    else:
        assert outcome.skipped[0].reason == (
            "needs opset 8, where scalars may be operands of Max and Min; the graph's is 7"
        )
    model, outcome = swapped(drawn(lambda op, x: op.Relu(x), opset=8), source="relu", to=to)
    (got,) = run(model, inputs)
    np.testing.assert_allclose(got, TORCH[to](torch.tensor(POINTS)).numpy(), atol=2e-6)


def test_what_the_opset_lacks_is_said():
    _, outcome = swapped(drawn(lambda op, x: op.Relu(x), opset=7), source="relu", to="sinc")
    assert outcome.changes == []
    assert outcome.skipped[0].reason == ("needs opset 11, which has Round, Where; the graph's is 7")


def test_every_kind_of_one_input_is_tried():
    tried = {k.name for k in KINDS.values() if len(k.inputs) == 1 and not k.per_channel}
    assert {*TORCH} == tried - {"hardsigmoid"}


def test_per_channel_activation_cannot_be_put_in():
    with pytest.raises(ValueError, match="prelu has a parameter for each channel"):
        swap(drawn(lambda op, x: op.Relu(x)), source="relu", to="prelu")
