"""Integer operators in another width: the results equal those in their own type."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from gatewave.graphs.rewrite.lower.wider_types import wider_types

OPSET = 20
INTEGERS = ("int8", "int16", "uint8", "uint16", "uint32", "uint64")
OPERATORS = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Max", "Min", "Div", "Mod", "PRelu", "BitShift"), 2),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "CumSum"), 2),
    **dict.fromkeys(("Neg", "Abs", "Sign", "Relu"), 1),
    **dict.fromkeys(("Clip", "Where"), 3),
}
COMPARING = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
ATTRIBUTES = {"BitShift": {"direction": "LEFT"}}


def node_of(operator, inputs, output):
    return helper.make_node(operator, inputs, [output], **ATTRIBUTES.get(operator, {}))


def operands(operator, dtype):
    """Return the ends of the type and numbers between, without invalid divisions and shifts."""
    kind = np.dtype(dtype)
    info = np.iinfo(kind)
    rng = np.random.default_rng(0)
    x = rng.integers(info.min, info.max, 64, kind, endpoint=True)
    x[:4] = info.min, info.max, 0, 1
    y = rng.permutation(x)
    if operator in ("Div", "Mod"):
        y = np.where(np.isin(y, (0, kind.type(-1) if info.min else 0)), kind.type(3), y)
    if operator == "BitShift":
        y = (y % (8 * kind.itemsize)).astype(kind)
    if operator == "CumSum":
        return x, np.array(0, np.int64)
    if operator == "Clip":
        return x, kind.type(3), kind.type(90)
    if operator == "Where":
        return x > y, x, y
    return (x, y)[: OPERATORS[operator]]


def model_of(operator, arrays, narrow, carrier):
    ports, nodes, names = [], [], []
    for index, array in enumerate(arrays):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        ports.append(helper.make_tensor_value_info(f"x{index}", kind, array.shape))
        names.append(f"x{index}")
        if carrier and kind == narrow:
            nodes.append(helper.make_node("Cast", [names[-1]], [f"w{index}"], to=carrier))
            names[-1] = f"w{index}"
    out = onnx.TensorProto.BOOL if operator in COMPARING else narrow
    cast_back = carrier and out == narrow
    nodes.append(node_of(operator, names, "v" if cast_back else "y"))
    if cast_back:
        nodes.append(helper.make_node("Cast", ["v"], ["y"], to=narrow))
    y = helper.make_tensor_value_info("y", out, None)
    graph = helper.make_graph(nodes, "g", ports, [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def evaluated(model, arrays):
    with np.errstate(all="ignore"):
        named = {f"x{index}": array for index, array in enumerate(arrays)}
        return ReferenceEvaluator(model).run(None, named)[0]


@pytest.mark.parametrize("operator", OPERATORS)
def test_wider_integers_give_the_same(operator):
    tried = 0
    for dtype in INTEGERS:
        arrays = operands(operator, dtype)
        narrow = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        node = ir.from_proto(node_of(operator, [f"x{i}" for i in range(len(arrays))], "y"))
        for carrier in wider_types(node, ir.DataType(narrow), OPSET):
            want = evaluated(model_of(operator, arrays, narrow, None), arrays)
            got = evaluated(model_of(operator, arrays, narrow, carrier.value), arrays)
            np.testing.assert_array_equal(got, want, err_msg=f"{dtype} in {carrier.name}")
            tried += 1
    assert tried


def test_what_a_carrier_does_not_hold_has_none():
    for operator, kind in (("Less", "UINT64"), ("Max", "UINT64"), ("Exp", "INT8"), ("Pow", "INT8")):
        node = ir.node(operator, [ir.Value(name="x")])
        assert not list(wider_types(node, ir.DataType[kind], OPSET))
    foreign = ir.node("Add", [ir.Value(name="x")], domain="Own")
    assert not list(wider_types(foreign, ir.DataType.INT8, OPSET))
