"""Types and shapes that make an expression another function."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn
from recognised import found

from gatewave.graphs.recognition.sites import sites


def test_broadcasting_one_makes_no_sinc():
    drawing = Drawing()
    x, y = drawing.input("x", ("n", 1)), drawing.input("y", ("n", "m"))
    angle = drawing.Mul(x, math.pi)
    one = drawing.Expand(drawing.number(1.0), drawing.Shape(y))
    is_zero = drawing.Equal(angle, 0.0)
    quotient = drawing.Div(drawing.Sin(angle), angle)
    drawing.output(drawing.Where(is_zero, one, quotient), "out", shape=("n", "m"))
    assert found(drawing.model()) == []


def test_broadcast_gate_makes_no_gated_unit():
    drawing = Drawing(shape=(3, 4))
    a, b = drawing.input("a"), drawing.input("b", (3, 1))
    drawing.output(drawing.Mul(a, drawing.Sigmoid(b)))
    assert found(drawing.model()) == [("sigmoid", {})]


def test_constant_that_adds_an_axis():
    drawing = Drawing(shape=(4,))
    x = drawing.input("x")
    alpha = drawing.tensor(np.array([[1.5]], np.float32))
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha))), shape=(1, 4))
    assert found(drawing.model()) == [("sigmoid", {})]


@pytest.mark.parametrize("axes", [0, 1])
def test_constant_with_axes_on_unknown_rank(axes):
    drawing = Drawing()
    inner = drawing.node("Unknown", [drawing.input("x")], domain="some.where")
    inner.type = ir.TensorType(ir.DataType.FLOAT)
    alpha = drawing.tensor(np.full((1,) * axes, 1.5, np.float32))
    swish = drawing.Mul(inner, drawing.Sigmoid(drawing.Mul(inner, alpha)))
    drawing.output(drawing.Softmax(swish))
    (site,) = sites(drawing.model(domains=["some.where"]))
    assert (site.kind, site.doubt == "") == ("swish", axes == 0)


@pytest.mark.parametrize("size", [1, "m"])
def test_expanded_number_may_broadcast(size):
    drawing = Drawing(shape=("n", size))
    x = drawing.input("x")
    four = drawing.tensor(np.array([1, 4]))
    alpha = drawing.Expand(drawing.tensor(np.array([1.5], np.float32)), four)
    alpha.type, alpha.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 4])
    result = drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha)))
    drawing.output(result, "out", ("n", "k"))
    assert "swish" not in {kind for kind, _ in found(drawing.model())}


ONES = {
    "a tensor": lambda op: op.tensor(np.ones((2, 8), np.float32)),
    "ConstantOfShape": lambda op: op.ConstantOfShape(
        op.tensor(np.array([2, 8])), value=ir.tensor(np.array([1], np.float32))
    ),
    "Expand": lambda op: op.Expand(op.number(1.0), op.tensor(np.array([2, 8]))),
}


@pytest.mark.parametrize("ones", ONES)
def test_ones_of_the_whole_shape_count_as_scalar(ones):
    def sinc(op, x):
        pi_x = op.Mul(x, math.pi)
        return op.Where(op.Equal(x, 0.0), ONES[ones](op), op.Div(op.Sin(pi_x), pi_x))

    def swish(op, x):
        return op.Div(x, op.Add(ONES[ones](op), op.Exp(op.Neg(x))))

    assert found(drawn(sinc, shape=(2, 8))) == [("sinc", {})]
    assert found(drawn(swish, shape=(2, 8))) == [("swish", {"alpha": 1.0})]


def test_row_of_unit_weights_stays():
    def write(op, x):
        weighted = op.Mul(x, op.tensor(np.ones(8, np.float32)))
        return op.Mul(weighted, op.Sigmoid(weighted))

    (site,) = sites(drawn(write, shape=(2, 8)))
    assert [node.op_type for node in site.nodes] == ["Sigmoid", "Mul"]


@pytest.mark.parametrize("narrow", ["float16", "int32"])
def test_narrowing_cast_makes_another_function(narrow):
    def write(op, x):
        kind = {"float16": ir.DataType.FLOAT16, "int32": ir.DataType.INT32}[narrow]
        less = op.node("Cast", [x], to=kind.value)
        return op.Mul(x, op.Sigmoid(op.cast(less, "float32")))

    assert found(drawn(write)) == [("sigmoid", {})]
