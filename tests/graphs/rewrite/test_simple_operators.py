"""Round, Floor, Sign, Clip, comparisons, Cos and Erfc in other operators: equal or nearly equal."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.lower import lower

GRID = [0.0, -0.0, 0.3, 0.49999997, 0.5, 0.5000001, 1.0, 1.5, 2.5, 3.5, 1e-10, 1e-40, 7.7]
GREAT = [2.0**21 + 0.5, 2.0**22 + 0.5, 2.0**22 + 1.5, 2.0**23 + 1, 6608997.5, 2.0**52 + 1, 1e30]


def written(text, dtype, target):
    """Return the model, and the model in other operators."""
    kind = {"float32": "float", "float64": "double"}[dtype]
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> {text.replace("number", kind)}'
    )
    model = ir.from_proto(proto)
    assert lower(model, targets.find(target)).changes
    return proto, ir.to_proto(model)


def evaluated(proto, *arrays):
    names = [port.name for port in proto.graph.input]
    with np.errstate(all="ignore"):
        (y,) = ReferenceEvaluator(proto).run(None, dict(zip(names, arrays, strict=True)))
    return y


def numbers(dtype):
    half = np.array([*GRID, *GREAT, np.inf], dtype)
    return np.concatenate([half, -half, np.array([np.nan], dtype)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operator", ["Round", "Floor", "Sign"])
def test_what_rounds_is_the_same_to_the_bit(operator, dtype):
    text = f"g (number[n] x) => (number[n] y) {{ y = {operator}(x) }}"
    before, after = written(text, dtype, "jaxonnxruntime")
    assert operator not in {node.op_type for node in after.graph.node}
    x = numbers(dtype)
    np.testing.assert_array_equal(evaluated(after, x), evaluated(before, x))


@pytest.mark.parametrize("operator", ["Greater", "GreaterOrEqual"])
def test_comparisons_are_turned_around(operator):
    text = f"g (number[n] a, number[n] b) => (bool[n] y) {{ y = {operator}(a, b) }}"
    before, after = written(text, "float32", "jaxonnxruntime")
    a = np.array([1, 2, 3, np.nan, 1, np.inf], np.float32)
    b = np.array([2, 2, 1, 1, np.nan, np.inf], np.float32)
    np.testing.assert_array_equal(evaluated(after, a, b), evaluated(before, a, b))


def test_a_cosine_is_made_of_a_sine():
    text = "g (number[n] x) => (number[n] y) { y = Cos(x) }"
    _, after = written(text, "float64", "onnxruntime-1.27")
    assert "Cos" not in {node.op_type for node in after.graph.node}
    x = np.concatenate([np.linspace(-10, 10, 4001), [0.0, np.pi / 2, 1e-300]])
    np.testing.assert_allclose(evaluated(after, x), np.cos(x), rtol=0, atol=4e-16)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 2e-7), ("float64", 1e-15)])
def test_erfc_is_made_of_erf(dtype, error):
    text = "g (number[n] x) => (number[n] y) { y = Erfc(x) }"
    _, after = written(text, dtype, "onnxruntime-1.20")
    x = np.array([-30, -3.3, -0.5, -0.0, 0.25, 1, 4.4, 30, np.inf, -np.inf, np.nan], dtype)
    due = [math.erfc(number) for number in x]
    np.testing.assert_allclose(evaluated(after, x), due, rtol=0, atol=error)


@pytest.mark.parametrize("limits", ["low, high", "low", '"", high'])
def test_a_clip_is_made_of_max_and_min(limits):
    text = "g (number[n] x) => (number[n] y) <number low = {-1}, number high = {2.5}> "
    before, after = written(text + f"{{ y = Clip(x, {limits}) }}", "float32", "jaxonnxruntime")
    assert {node.op_type for node in after.graph.node} <= {"Max", "Min"}
    x = numbers("float32")
    np.testing.assert_array_equal(evaluated(after, x), evaluated(before, x))


def cut(text, opset, dtype="float"):
    """Return a model of one Clip, lowered to other operators."""
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g ({dtype}[n] x) => ({dtype}[n] y) {text}'
    )
    model = ir.from_proto(proto)
    lower(model, targets.find("jaxonnxruntime"))
    return ir.to_proto(model)


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize(
    ("limits", "low", "high"),
    [("", -1, 1), ("<min = -2.0>", -2.0, 1), ("<max = 3.0>", -1, 3.0)],
)
def test_older_clip_without_limits_has_defaults(limits, low, high, dtype):
    greatest = float(np.finfo(np.float32).max)
    after = cut(f"{{ y = Clip {limits} (x) }}", 6, dtype)
    assert {node.op_type for node in after.graph.node} == {"Max", "Min"}
    x = np.array([-np.inf, -1e300, -5, 0, 5, 1e300, np.inf])
    bounds = [greatest * b if abs(b) == 1 else b for b in (low, high)]
    with np.errstate(over="ignore"):
        x = x.astype({"float": np.float32, "double": np.float64}[dtype])
    np.testing.assert_array_equal(evaluated(after, x), np.clip(x, *bounds))


@pytest.mark.parametrize("opset", [11, 17])
def test_newer_clip_without_limits_has_none(opset):
    after = cut("{ y = Clip(x) }", opset)
    assert [node.op_type for node in after.graph.node] == ["Identity"]


def test_older_clip_in_function_keeps_its_limits():
    text = """
        <ir_version: 8, opset_import: ["" : 6, "a.b" : 1]>
        g (float[n] x) => (float[n] y) { y = a.b.F(x) }
        <domain: "a.b", opset_import: ["" : 6]> F (x) => (y) { y = Clip(x) }
    """
    model = ir.from_proto(parser.parse_model(text))
    lower(model, targets.find("jaxonnxruntime"))
    assert [node.op_type for node in model.graph] == ["Max", "Min"]


@pytest.mark.parametrize("dtype", ["int32", "int8"])
def test_integers_are_cut_by_max_and_min(dtype):
    limits = f"<{dtype} low = {{-3}}, {dtype} high = {{4}}>"
    after = cut(f"{limits} {{ y = Clip(x, low, high) }}", 17, dtype)
    assert {node.op_type for node in after.graph.node} == {"Max", "Min"}
    x = np.arange(-8, 9).astype(dtype)
    np.testing.assert_array_equal(evaluated(after, x), np.clip(x, -3, 4))


def test_missing_integer_lowering_is_named():
    text = "{ y = Sign(x) }"
    said = "Sign 'y': in int32, it is not written in other operators"
    with pytest.raises(TargetError, match=f"^{said}$"):
        cut(text, 17, "int32")
