"""Real parameters that are constants or inputs of the graph."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from recognised import found

from gatewave.graphs.recognition.sites import sites

OF_INTEGERS = {
    "3 // 2": (lambda op, n: op.Div(n(3), n(2)), None),
    "0 // 2 + 3": (lambda op, n: op.Add(op.Div(n(0), n(2)), n(3)), None),
    "1 + 2": (lambda op, n: op.Add(n(1), n(2)), 3.0),
    "2 ** 3": (lambda op, n: op.Pow(op.number(2.0), n(3)), 8.0),
    "bool(2)": (lambda op, n: op.node("Cast", [n(2)], to=ir.DataType.BOOL.value), 1.0),
    "bool(2.5)": (lambda op, _: op.node("Cast", [2.5], to=ir.DataType.BOOL.value), 1.0),
    "int(2.5)": (lambda op, _: op.node("Cast", [2.5], to=ir.DataType.INT64.value), None),
    "2 ** 62 + 1": (lambda op, n: op.Add(n(2**62), n(1)), None),
}


@pytest.mark.parametrize("written", OF_INTEGERS)
def test_integers_are_computed_as_integers(written):
    make, alpha = OF_INTEGERS[written]

    def write(op, x):
        integers = make(op, lambda n: op.tensor(np.array(n, np.int64)))
        return op.Mul(x, op.Sigmoid(op.Mul(x, op.cast(integers, "float32"))))

    kinds = dict(found(drawn(write)))
    assert kinds.get("swish") == (None if alpha is None else {"alpha": alpha})


def test_constants_of_many_paths_are_memoised():
    # 4 to the power of 14: too many to go through each.
    def write(op, x):
        number = op.number(1.0)
        for _ in range(14):
            number = op.Mul(op.Sum(number, number, number, number), 0.25)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    assert [kind for kind, _ in found(drawn(write))] == ["glu"]  # too deep to be followed

    def write_less(op, x):
        number = op.number(1.0)
        for _ in range(14):
            number = op.Sum(number, number)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    assert found(drawn(write_less)) == [("swish", {"alpha": 2.0**14})]


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_scalar_input_in_the_place_of_alpha(place):
    drawing = Drawing()
    x = drawing.input("x")
    alpha = drawing.tensor(np.array(1.0, np.float32))
    drawing.inputs.append(alpha)
    if place == "inside":
        result = drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha)))
    else:
        result = drawing.Mul(drawing.Mul(x, drawing.Sigmoid(x)), alpha)
    drawing.output(result, "out")
    (site,) = sites(drawing.model())
    assert (site.kind, site.output.name == "out") == ("swish", place == "inside")
    assert [*site.parameters] == (["alpha"] if place == "inside" else [])


ALPHAS = {
    "its magnitude": (lambda op, alpha: op.Abs(alpha), 1.5),
    "its positive part": (lambda op, alpha: op.Relu(alpha), -1.0),
    "clipped": (lambda op, alpha: op.Clip(alpha, -2.0, 2.0), 1.0),
    "or 1": (lambda op, alpha: op.Where(op.Equal(alpha, 0.0), 1.0, alpha), 1.5),
    "of its default alone": (
        lambda op, alpha: op.Where(op.Equal(alpha, 7.0), 1.0, alpha),
        7.0,
    ),
}


@pytest.mark.parametrize("made", ALPHAS)
def test_function_of_a_scalar_is_not_alpha(made):
    make, default = ALPHAS[made]
    drawing = Drawing()
    x = drawing.input("x")
    given = drawing.tensor(np.array(default, np.float32))
    drawing.inputs.append(given)
    alpha = make(drawing, given)
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha))), "out")
    assert "swish" not in {kind for kind, _ in found(drawing.model())}
