"""Real parameters of fused activations: kept in full, in the type that is computed in."""

import numpy as np
import pytest
from drawing import Drawing, drawn
from fusing import fused, silu
from running import check_same

from gatewave.graphs.rewrite.fuse import fuse

DOMAIN = "ai.gatewave"


def test_alpha_is_kept_in_full():
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, 1.702))))
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    (alpha,) = new.graph.initializers.values()
    assert alpha.const_value.numpy() == np.float32(1.702)
    check_same(model, new)


STORED = float(np.float32(1.702))


def cast_alpha(op, x):
    alpha = op.cast(op.number(1.702, dtype="float32"), "float64")
    return op.Mul(x, op.Sigmoid(op.Mul(x, alpha)))


@pytest.mark.parametrize(
    ("write", "inputs", "opset"),
    [
        (lambda op, x: op.Swish(x, alpha=1.702), 1, 24),
        (lambda op, a, b: op.SwiGLU(a, b, alpha=1.702), 2, 28),
        (cast_alpha, 1, 18),
        (lambda op, x: op.node("QuickGelu", [x], domain="com.microsoft"), 1, 18),
    ],
    ids=["Swish", "SwiGLU", "cast", "QuickGelu"],
)
def test_float64_keeps_the_stored_alpha(write, inputs, opset):
    drawing = Drawing(opset=opset, dtype="float64")
    given = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(write(drawing, *given))
    new, outcome, _ = fused(drawing.model(domains=["com.microsoft"]))
    assert len(outcome.changes) == 1
    (alpha,) = new.graph.initializers.values()
    assert alpha.const_value.numpy() == pytest.approx(STORED, rel=1e-11)


def test_unroundable_float64_alpha_is_not_fused_to_standard():
    def write(op, x):
        return op.Mul(x, op.Sigmoid(op.Mul(x, 1.702)))

    model = drawn(write, dtype="float64", opset=24)
    _, outcome, operators = fused(model, to="standard")
    assert operators == ["Mul", "Sigmoid", "Mul"]
    assert [s.reason for s in outcome.skipped] == ["Swish would round alpha=1.702 to float32"]
    (alpha,) = fused(model)[0].graph.initializers.values()
    assert alpha.const_value.numpy() == 1.702
    assert fused(drawn(write, opset=24), to="standard")[2] == ["Swish"]


def test_a_stored_alpha_of_float64_becomes_an_attribute():
    model = drawn(cast_alpha, dtype="float64", opset=24)
    new, _, operators = fused(model, to="standard")
    assert operators == ["Swish"]
    assert new.graph[0].attributes["alpha"].as_float() == STORED


def test_two_alphas_share_one_body():
    def write(op, x):
        first = op.Mul(x, op.Sigmoid(op.Mul(x, 1.5)))
        return silu(op, first)

    model = drawn(write)
    new, _, operators = fused(model)
    assert operators == ["Swish", "Swish"]
    assert len(new.functions) == 1
    check_same(model, new)


def test_constants_with_many_paths_are_removed():
    # 4 to the power of 14: too many to go through each.
    def write(op, x):
        number = op.number(2.0**-28)
        for _ in range(14):
            number = op.Sum(number, number, number, number)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    model = drawn(write)
    assert [change.what.split()[0] for change in fuse(model).changes] == ["Swish(alpha=1)"]
    assert [node.op_type for node in model.graph] == ["Swish"]


def test_an_alias_means_its_parameters():
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(silu(drawing, x), "plain")
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, 1.702))), "quick")
    model = drawing.model()
    for kinds, outputs in (
        (["silu"], ["plain"]),
        (["quick-gelu"], ["quick"]),
        (["silu", "quick-gelu"], ["plain", "quick"]),
        (["silu", "swish"], ["plain", "quick"]),
    ):
        _, outcome, _ = fused(model, kinds=kinds)
        assert [change.output for change in outcome.changes] == outputs
    _, outcome, _ = fused(model, kinds=["silu"])
    assert [s.reason for s in outcome.skipped] == [
        "its parameters are {'alpha': 1.702}, not {'alpha': 1.0}"
    ]


def test_unused_constants_are_removed():
    model = drawn(
        lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, op.Sqrt(2.25)))), style="initializer"
    )
    new, _, operators = fused(model)
    assert operators == ["Swish"]
    (alpha,) = new.graph.initializers.values()
    assert alpha.name.startswith("alpha")
    check_same(model, new)


def test_a_constant_with_another_use_stays():
    def write(op, x):
        number = op.number(1.5)
        return op.Softmax(op.Sub(op.Mul(x, op.Sigmoid(op.Mul(x, number))), number))

    model = drawn(write)
    new, _, operators = fused(model)
    assert operators == ["Swish", "Sub", "Softmax"]
    check_same(model, new)
