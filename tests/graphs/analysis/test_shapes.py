"""Equality of shapes with dimensions that ONNX's inference leaves open."""

import numpy as np
import pytest
from drawing import Drawing

from gatewave.graphs.analysis.shapes import Shapes, shapes

OPEN = (None, None, 8)


def _weight(op, *shape):
    return op.tensor(np.ones(shape, np.float32))


EQUAL = {
    "two projections": lambda op, x: [op.MatMul(x, _weight(op, 8, 4)) for _ in "ab"],
    "with biases": lambda op, x: [
        op.Add(op.MatMul(x, _weight(op, 8, 4)), _weight(op, 4)) for _ in "ab"
    ],
    "biases first": lambda op, x: [
        op.Add(_weight(op, 4), op.MatMul(x, _weight(op, 8, 4))) for _ in "ab"
    ],
    "after activations": lambda op, x: [
        op.Tanh(op.MatMul(x, _weight(op, 8, 4))),
        op.Relu(op.Sigmoid(op.MatMul(x, _weight(op, 8, 4)))),
    ],
    "halves of an axis that is known": lambda op, x: op.node("Split", [x], outputs=2, axis=-1),
    "the same of the same": lambda op, x: [op.Neg(x), op.Exp(x)],
}

UNEQUAL = {
    "projections of two sizes": lambda op, x: [
        op.MatMul(x, _weight(op, 8, 4)), op.MatMul(x, _weight(op, 8, 1)),
    ],
    "projections of two tensors": lambda op, x: [
        op.MatMul(x, _weight(op, 8, 4)), op.MatMul(op.Transpose(x), _weight(op, 8, 4)),
    ],
    "a bias that may widen": lambda op, x: [
        op.MatMul(x, _weight(op, 8, 4)),
        op.Add(op.MatMul(x, _weight(op, 8, 4)), _weight(op, 3, 1, 4)),
    ],
    "two tensors": lambda op, x: [x, op.Transpose(x)],
    "parts of two sizes": lambda op, x: op.node(
        "Split", [x, op.tensor(np.array([3, 5]))], outputs=2, axis=-1
    ),
    "parts of an open axis, in opset 18": lambda op, x: op.node(
        "Split", [x], outputs=2, axis=0, num_outputs=2
    ),
    "a result and another of one node": lambda op, x: op.node(
        "LayerNormalization", [x, _weight(op, 8)], outputs=2
    ),
}  # fmt: skip


def _pair(write, opset):
    op = Drawing(opset=opset)
    one, other = write(op, op.input("x", OPEN))
    for value in (one, other):
        op.output(value, shape=(None, None, None))
    model = op.model()
    return shapes(model), model.graph.outputs


@pytest.mark.parametrize("making", EQUAL)
def test_shapes_of_one_making_are_equal(making):
    known, (one, other) = _pair(EQUAL[making], 17)
    assert known.equal(one, other)
    assert not known.differ(one, other)


@pytest.mark.parametrize("making", UNEQUAL)
def test_other_shapes_are_not_taken_for_equal(making):
    known, (one, other) = _pair(UNEQUAL[making], 18)
    assert not known.equal(one, other)


def test_halves_of_open_axis_before_opset_18():
    known, (one, other) = _pair(lambda op, x: op.node("Split", [x], outputs=2, axis=0), 13)
    assert known.equal(one, other)


def test_gemm_and_convolution_are_compared_with_their_attributes():
    op = Drawing()
    x = op.input("x", (None, 8))
    pictures = op.input("p", (None, 3, None, None))
    products = [op.Gemm(x, _weight(op, 4, 8), transB=1) for _ in "ab"]
    kernels = [
        op.Conv(pictures, _weight(op, 4, 3, 3, 3), strides=[step, step]) for step in (1, 1, 2)
    ]
    for value in products:
        op.output(value, shape=(None, None))
    for value in kernels:
        op.output(value, shape=(None, None, None, None))
    model = op.model()
    known = shapes(model)
    a, b, one, same, coarse = model.graph.outputs
    assert known.equal(a, b)
    assert known.equal(one, same)
    assert not known.equal(one, coarse)


@pytest.mark.parametrize("overridable", [False, True])
def test_split_sizes_from_an_input_are_unknown(overridable):
    op = Drawing()
    x = op.input("x", (2, None))
    given = op.tensor(np.array([4, 4]))
    op.inputs += [given] * overridable
    a, b = op.node("Split", [x, given], outputs=2, axis=-1)
    op.output(op.Mul(a, b), shape=(2, None))
    model = op.model()
    a, b = model.graph.outputs[0].producer().inputs
    a.shape = b.shape = None
    assert Shapes({}).equal(a, b) is not overridable


def test_named_sizes_are_equal_where_the_names_are():
    op = Drawing()
    x, y, z = op.input("x", ("n", 4)), op.input("y", ("n", 4)), op.input("z", ("m", 4))
    op.output(op.Add(op.Add(x, y), z), shape=(None, 4))
    model = op.model()
    known = shapes(model)
    x, y, z = model.graph.inputs
    assert known.equal(x, y)
    assert not known.equal(x, z)
    assert not known.differ(x, z)


def test_the_model_is_left_as_it_was():
    op = Drawing()
    op.output(op.Neg(op.Neg(op.input("x", (3, 4)))), shape=(3, 4))
    model = op.model()
    known = shapes(model)
    inner = model.graph[0].outputs[0]
    assert (inner.shape, inner.dtype) == (None, None)
    assert tuple(known.shape(inner)) == (3, 4)


def test_failed_inference_leaves_all_unknown():
    op = Drawing()
    x, y = op.input("x", (3, 4)), op.input("y", (5, 6))
    total = op.Add(x, y)
    op.output(op.Neg(total), shape=(3, 4))
    known = shapes(op.model())
    assert known.shape(total) is None
