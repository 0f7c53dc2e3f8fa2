"""Integers that are computed from shapes: known if all their operands are known."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing

from gatewave.graphs.analysis.shapes import Shapes


def _ints(op, *numbers):
    return op.tensor(np.array(numbers, np.int64))


def _size(op, x, axis):
    return op.Gather(op.Shape(x), op.tensor(np.array(axis)), axis=0)


KNOWN = {
    "a shape": (lambda op, _: op.Shape(op.input("y", (2, 3))), [2, 3]),
    "one size of several": (lambda op, x: _size(op, x, 1), [8]),
    "counted from the end": (lambda op, x: _size(op, x, -1), [8]),
    "a half": (lambda op, x: op.Div(op.Add(_size(op, x, 1), _ints(op, 1)), _ints(op, 2)), [4]),
    "the rest": (lambda op, x: op.Sub(_ints(op, 10), op.Mul(_size(op, x, 1), _ints(op, 1))), [2]),
    "one of a row": (lambda op, _: op.Gather(_ints(op, 5, 6, 7), op.tensor(np.array(1))), [6]),
    "with an axis": (lambda op, x: op.Unsqueeze(_size(op, x, 1), _ints(op, 0)), [8]),
    "without one": (lambda op, _: op.Identity(op.Squeeze(_ints(op, 3))), [3]),
}

UNKNOWN = {
    "a named size": lambda op, x: _size(op, x, 0),
    "a shape with a named size": lambda op, x: op.Shape(x),
    "a part of a shape": lambda op, x: op.Shape(x, start=1),
    "of an unknown shape": lambda op, x: op.Shape(op.Softmax(x)),
    "floats": lambda op, _: op.number(1.0),
    "a long row": lambda op, _: op.tensor(np.zeros(1000, np.int64)),
    "a quotient of negative numbers": lambda op, _: op.Div(_ints(op, -3), _ints(op, 2)),
    "a quotient by zero": lambda op, _: op.Div(_ints(op, 3), _ints(op, 0)),
    "beyond the end": lambda op, _: op.Gather(_ints(op, 3), _ints(op, 1)),
    "of another axis": lambda op, _: op.Gather(
        op.tensor(np.eye(2, dtype=int)), _ints(op, 1), axis=1
    ),
    "no fitting shapes": lambda op, _: op.Add(_ints(op, 1, 2), _ints(op, 1, 2, 3)),
    "too few inputs": lambda op, _: op.Add(_ints(op, 1)),
    "another operator": lambda op, _: op.Pow(_ints(op, 2), _ints(op, 3)),
    "another domain's": lambda op, _: op.node("Add", [_ints(op, 2)] * 2, domain="some.where"),
    "an input": lambda _, x: x,
}


def _integers(write):
    drawing = Drawing(shape=("n", 8))
    written = write(drawing, drawing.input("x"))
    return Shapes({}).integers(written)


@pytest.mark.parametrize("written", KNOWN)
def test_integers_of_known_sizes_are_known(written):
    write, numbers = KNOWN[written]
    assert _integers(write) == numbers


@pytest.mark.parametrize("written", UNKNOWN)
def test_integers_of_anything_else_are_not_known(written):
    assert _integers(UNKNOWN[written]) is None


def test_replaceable_default_is_unknown():
    drawing = Drawing()
    given = _ints(drawing, 4)
    drawing.inputs.append(given)
    drawing.output(drawing.Identity(given), dtype="float32")
    model = drawing.model()
    assert Shapes({}).integers(model.graph.inputs[0]) is None


def test_an_attribute_of_a_function_is_not_known():
    drawing = Drawing()
    value = drawing.Gather(_ints(drawing, 1, 2), _ints(drawing, 0), axis=0)
    value.producer().attributes["axis"] = ir.RefAttr("axis", "axis", ir.AttributeType.INT)
    assert Shapes({}).integers(value) is None
