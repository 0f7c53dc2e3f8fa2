"""Operators computed with NumPy: they equal those that ONNX defines."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing
from running import run

from gatewave.graphs.analysis.numpy_ops import ContribOps, NotElementwiseError, NumpyOps
from gatewave.graphs.recognition.operators import ELEMENTWISE

POINTS = np.array([-20.0, -2.5, -1.0, -0.75, 0.0, 0.25, 1.0, 2.5, 3.5, 20.0])
OTHERS = np.array([1.0, -2.5, 3.0, 0.5, 0.0, 0.25, -1.0, 2.0, 1.5, -4.0])
POSITIVE = {"Log", "Sqrt", "Reciprocal"}
COMPARED = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"}
LOGICAL = {"And", "Or", "Xor", "Not"}
TWO = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "PRelu", *COMPARED}
APART = {"Cast", "Clip", "Where", "Pow", "Erfc", *LOGICAL}
ATTRIBUTES = {
    "LeakyRelu": {"alpha": 0.25}, "Elu": {"alpha": 1.5}, "Celu": {"alpha": 1.5},
    "ThresholdedRelu": {"alpha": 0.5}, "HardSigmoid": {"alpha": 0.25, "beta": 0.25},
    "Swish": {"alpha": 1.5}, "Gelu": {"approximate": "tanh"}, "Selu": {"alpha": 1.5, "gamma": 2.0},
}  # fmt: skip


def _expected(op_type, *arrays, domain="", **attributes):
    op = Drawing(opset=24, dtype="float64")
    values = [op.input(name, a.shape, "float64") for name, a in zip("xyz", arrays, strict=False)]
    result = op.node(op_type, values, domain=domain, **attributes)
    op.outputs.append(result)
    result.type, result.shape = ir.TensorType(ir.DataType.DOUBLE), ir.Shape(arrays[0].shape)
    if op_type in COMPARED:
        result.type = ir.TensorType(ir.DataType.BOOL)
    inputs = dict(zip("xyz", arrays, strict=False))
    (expected,) = run(op.model(), inputs, evaluator=True)
    return expected


@pytest.mark.parametrize("op_type", sorted(ELEMENTWISE[""] - APART))
def test_operators_compute_what_onnx_says(op_type):
    x = np.abs(POINTS) + 0.5 if op_type in POSITIVE else POINTS
    arrays = (x, OTHERS + 0.125) if op_type in TWO else (x,)
    for attributes in ({}, ATTRIBUTES.get(op_type, {})):
        got = getattr(NumpyOps(), op_type)(*arrays, **attributes)
        np.testing.assert_allclose(
            got, _expected(op_type, *arrays, **attributes), rtol=2e-7, atol=2e-7
        )


def test_clip_where_and_pow_agree_with_onnx():
    op = NumpyOps()
    np.testing.assert_array_equal(op.Clip(POINTS, -1.0, 2.0), np.clip(POINTS, -1, 2))
    np.testing.assert_array_equal(op.Clip(POINTS, min=-1.0), np.maximum(POINTS, -1))
    np.testing.assert_array_equal(
        op.Where(POINTS > 0, 1.0, POINTS), np.where(POINTS > 0, 1, POINTS)
    )
    np.testing.assert_array_equal(op.Pow(POINTS, 3.0), POINTS**3)


def test_erfc_is_that_of_tensorflow():
    x = np.array([-30.0, -2.0, -0.0, 0.5, 5.0, 26.0, np.inf, -np.inf])
    np.testing.assert_array_equal(NumpyOps().Erfc(x), [math.erfc(one) for one in x])


def test_logic_is_that_of_numpy():
    op, yes = NumpyOps(), POINTS > 0
    other = OTHERS > 0
    np.testing.assert_array_equal(op.And(yes, other), yes & other)
    np.testing.assert_array_equal(op.Or(yes, other), yes | other)
    np.testing.assert_array_equal(op.Xor(yes, other), yes ^ other)
    np.testing.assert_array_equal(op.Not(yes), ~yes)


def test_contributed_operators_are_those_of_onnx_runtime():
    x = POINTS.astype(np.float32)
    for op_type, attributes in (("QuickGelu", {"alpha": 1.5}), ("QuickGelu", {}), ("Gelu", {})):
        op = Drawing()
        op.output(op.node(op_type, [op.input("x")], domain="com.microsoft", **attributes))
        (expected,) = run(
            op.model(domains=["com.microsoft"]), {"x": x.reshape(-1, 2)[:, :].repeat(2, 1)}
        )
        got = getattr(ContribOps(), op_type)(x.astype(float), **attributes)
        np.testing.assert_allclose(got.reshape(-1, 2).repeat(2, 1), expected, atol=2e-6)


def test_branches_are_remembered():
    op = NumpyOps()
    op.Where(op.Less(POINTS, 0.25), 0.0, POINTS)
    (branch_point,) = op.branch_points
    np.testing.assert_array_equal(branch_point.difference, POINTS - 0.25)
    assert not branch_point.equality


def test_a_narrowing_cast_and_training_are_not_elementwise():
    with pytest.raises(NotElementwiseError, match="Cast to INT64"):
        NumpyOps().Cast(POINTS, to=7)
    with pytest.raises(NotElementwiseError, match="training"):
        NumpyOps().Dropout(POINTS, 0.5, training=np.array(True))


def test_attributes_that_are_not_known_are_refused():
    with pytest.raises(TypeError):
        NumpyOps().Clip(POINTS, least=1.0)
    with pytest.raises(TypeError):
        NumpyOps().Swish(POINTS, beta=1.0)


@pytest.mark.parametrize("op_type", ["Atan", "Asinh", "Acos"])
def test_other_operators_are_numpys_own(op_type):
    x = np.array([-0.75, 0.0, 0.5, 1.0])
    np.testing.assert_allclose(getattr(NumpyOps(), op_type)(x), _expected(op_type, x), rtol=1e-12)
    with pytest.raises(TypeError, match="1 operands, not 2"):
        getattr(NumpyOps(), op_type)(x, x)


def test_operator_without_numpy_function_is_refused():
    with pytest.raises(AttributeError, match="add a method Erfinv to NumpyOps"):
        NumpyOps().Erfinv(POINTS)
