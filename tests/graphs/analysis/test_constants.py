"""Constants of a graph: recognised in every spelling, with types and shapes."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing

from gatewave.graphs.analysis.constants import constant
from gatewave.graphs.analysis.thresholds import MAX_CONSTANT_ELEMENTS


def _cast(op, value, kind):
    return op.node("Cast", [value], to=kind.value)


def _ints(op, *numbers):
    return op.tensor(np.array(numbers, np.int64))


def _filled(op, *sizes, **attributes):
    return op.ConstantOfShape(_ints(op, *sizes), **attributes)


def _of_attribute(op):
    value = _filled(op, 2)
    value.producer().attributes["value"] = ir.RefAttr("value", "value", ir.AttributeType.TENSOR)
    return value


def _like(op, number, kind):
    value = op.CastLike(op.number(number), op.input("x"))
    value.type = ir.TensorType(kind)
    return value


FLOAT, DOUBLE, BOOL, INT64 = (
    ir.DataType.FLOAT,
    ir.DataType.DOUBLE,
    ir.DataType.BOOL,
    ir.DataType.INT64,
)

KNOWN = {
    "a scalar": (lambda op: op.number(1.5), 1.5, (), FLOAT),
    "a row": (lambda op: op.tensor(np.full(3, 2.5, np.float32)), 2.5, (3,), FLOAT),
    "filled": (
        lambda op: _filled(op, 2, 3, value=ir.tensor(np.array([1.5], np.float32))),
        1.5,
        (2, 3),
        FLOAT,
    ),
    "filled with nothing said": (lambda op: _filled(op, 4), 0.0, (4,), FLOAT),
    "expanded": (lambda op: op.Expand(op.number(2.0), _ints(op, 2, 3)), 2.0, (2, 3), FLOAT),
    "of unknown shape": (
        lambda op: op.Expand(op.number(2.0), op.Shape(op.input("x"))),
        2.0,
        None,
        FLOAT,
    ),
    "reshaped": (lambda op: op.Reshape(op.number(2.0), _ints(op, 1)), 2.0, (1,), FLOAT),
    "reshaped to an unknown shape": (
        lambda op: op.Reshape(op.number(2.0), op.Shape(op.input("x"))),
        2.0,
        None,
        FLOAT,
    ),
    "with axes": (lambda op: op.Unsqueeze(op.number(2.0), _ints(op, 0, 1)), 2.0, (1, 1), FLOAT),
    "with fewer axes": (
        lambda op: op.Squeeze(op.tensor(np.ones((1, 1), np.float32)), _ints(op, 0)),
        1.0,
        (1,),
        FLOAT,
    ),
    "with no axes": (
        lambda op: op.Squeeze(op.tensor(np.ones((1, 1), np.float32))),
        1.0,
        (),
        FLOAT,
    ),
    "flattened": (lambda op: op.Flatten(op.number(2.0)), 2.0, (1, 1), FLOAT),
    "with axes by an attribute": (
        lambda op: op.Unsqueeze(op.number(2.0), axes=[0]),
        2.0,
        (1,),
        FLOAT,
    ),
    "broadcast": (
        lambda op: op.Add(
            op.tensor(np.ones((3, 1), np.float32)), op.tensor(np.ones(2, np.float32))
        ),
        2.0,
        (3, 2),
        FLOAT,
    ),
    "of shapes that do not fit": (
        lambda op: op.Add(op.tensor(np.ones(3, np.float32)), op.tensor(np.ones(2, np.float32))),
        2.0,
        None,
        FLOAT,
    ),
    "cast": (lambda op: _cast(op, _ints(op, 3), DOUBLE), 3.0, (1,), DOUBLE),
    "of another's type": (lambda op: _like(op, 2.5, BOOL), 1.0, (), BOOL),
    "compared": (lambda op: op.Less(op.number(1.0), op.number(2.0)), 1.0, (), BOOL),
    "chosen": (
        lambda op: op.Where(
            op.Less(op.number(1.0), op.number(0.0)), op.number(3.0), op.number(4.0)
        ),
        4.0,
        (),
        FLOAT,
    ),
    "integers": (lambda op: op.Mul(_ints(op, 3), _ints(op, -4)), -12.0, (1,), INT64),
}

UNKNOWN = {
    "an input": lambda op: op.input("x"),
    "several numbers": lambda op: _ints(op, 1, 2, 1),
    "no number": lambda op: op.tensor(np.zeros(0, np.float32)),
    "words": lambda op: op.tensor(np.array(["a"], object)),
    "cast to words": lambda op: _cast(op, op.number(1.0), ir.DataType.STRING),
    "a part of an integer": lambda op: _cast(op, op.number(1.5), INT64),
    "great integers": lambda op: op.Mul(_ints(op, 1 << 20), _ints(op, 1 << 20)),
    "a quotient of integers": lambda op: op.Div(_ints(op, 3), _ints(op, 2)),
    "filled with an attribute of a function": _of_attribute,
    "another domain's": lambda op: op.node("Neg", [op.number(1.0)], domain="some.where"),
    "too many operands": lambda op: op.node("Neg", [op.number(1.0), op.number(1.0)]),
    "of what is not known": lambda op: op.Add(op.number(1.0), op.input("x")),
}


@pytest.mark.parametrize("written", KNOWN)
def test_constant_has_its_shape_and_type(written):
    write, number, shape, dtype = KNOWN[written]
    found = constant(write(Drawing()))
    assert (found.number, found.shape, found.dtype) == (number, shape, dtype)


@pytest.mark.parametrize("written", UNKNOWN)
def test_what_is_no_one_number_is_not_known(written):
    assert constant(UNKNOWN[written](Drawing())) is None


def test_a_stated_shape_is_taken():
    op = Drawing()
    value = op.Reshape(op.number(2.0), op.Shape(op.input("x")))
    value.shape = ir.Shape([1, 1])
    assert constant(value).shape == (1, 1)
    value.shape = ir.Shape(["n", 1])
    assert constant(value).shape is None


def test_weights_are_not_looked_into():
    large = ir.LazyTensor(
        lambda: pytest.fail("it was read"),
        dtype=FLOAT,
        shape=ir.Shape([MAX_CONSTANT_ELEMENTS + 1]),
        name="w",
    )
    assert constant(ir.Value(name="w", const_value=large)) is None
