"""Operators that can end or hold the process that runs them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_models import endless, helper, model, numpy_helper, port, scaled, unary

from gatewave.service.repository import hazards
from gatewave.service.repository.hazards import hazard_of

INT32, INT64, FLOAT, DOUBLE = (
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
)
X, Y = [port("x", ("n",), INT64)], [port("y", None, INT64)]


def hazard(made):
    return hazard_of(made.SerializeToString())


def constant(values, kind=np.int64, name="c"):
    return numpy_helper.from_array(np.array(values, kind), name)


def binary(operator, kind, divisor=None, **attributes):
    """``y = operator(x, b)``, where ``b`` is an input unless it is given."""
    node = helper.make_node(operator, ["x", "b"], ["y"], name="n", **attributes)
    inputs = [port("x", ("n",), kind)] + [port("b", ("n",), kind)] * (divisor is None)
    kept = [] if divisor is None else [constant(divisor, NUMPY[kind], "b")]
    return model([node], inputs, [port("y", None, kind)], kept)


NUMPY = {INT32: np.int32, INT64: np.int64, FLOAT: np.float32, DOUBLE: np.float64}


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize(("kind", "name"), [(INT32, "INT32"), (INT64, "INT64")])
def test_division_by_an_input_can_trap(operator, kind, name):
    assert hazard(binary(operator, kind)) == f"node n ({operator}) on {name} can trap"


@pytest.mark.parametrize("kind", [FLOAT, DOUBLE])
def test_division_of_fractions_cannot_trap(kind):
    assert hazard(binary("Div", kind)) == ""


@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8, TensorProto.UINT64])
def test_division_of_other_types_cannot_trap(kind):
    node = helper.make_node("Div", ["x", "b"], ["y"])
    inputs = [port("x", ("n",), kind), port("b", ("n",), kind)]
    assert hazard(model([node], inputs, [port("y", None, kind)])) == ""


@pytest.mark.parametrize(("divisor", "safe"), [([2], True), ([2, 0], True), ([3, -1], False)])
@pytest.mark.parametrize("kind", [INT32, INT64])
def test_a_constant_divisor_is_looked_at(kind, divisor, safe):
    assert (hazard(binary("Div", kind, divisor)) == "") == safe


def test_unpacked_and_large_constants():
    made = binary("Div", INT64, [2] * 1000)
    assert "can trap" in hazard(made)
    spelled = constant([2, 3], name="b")
    spelled.ClearField("raw_data")
    spelled.int64_data.extend([2, 3])
    node = helper.make_node("Div", ["x", "b"], ["y"])
    assert hazard(model([node], X, Y, [spelled])) == ""
    spelled.int64_data[:] = [2, -1]
    assert "can trap" in hazard(model([node], X, Y, [spelled]))


def test_a_default_is_no_constant():
    """An initializer that is an input too may be given by a request."""
    made = binary("Div", INT64, [2])
    made.graph.input.append(port("b", (1,), INT64))
    assert "can trap" in hazard(made)
    made.ir_version = 3
    assert hazard(made) == ""


def test_a_constant_node_is_a_constant():
    nodes = [
        helper.make_node("Constant", [], ["two"], value_int=2),
        helper.make_node("Unsqueeze", ["two", "axis"], ["b"]),
        helper.make_node("Div", ["x", "b"], ["y"]),
    ]
    assert hazard(model(nodes, X, Y, [constant([0], name="axis")])) == ""


def test_sizes_divide_safely():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["rows"]),
        helper.make_node("Div", ["shape", "rows"], ["y"]),
    ]
    made = model(nodes, [port("x", ("n", 2))], Y, [constant(0, name="zero")])
    assert hazard(made) == ""
    # A difference of sizes may be -1.
    nodes.insert(2, helper.make_node("Sub", ["rows", "shape"], ["others"]))
    nodes[-1].input[1] = "others"
    assert "can trap" in hazard(model(nodes, [port("x", ("n", 2))], Y, [constant(0, name="zero")]))


def test_types_follow_through_a_graph():
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "f"], ["squares"]),
        helper.make_node("Div", ["squares", "f"], ["q"]),
        helper.make_node("Cast", ["q"], ["y"], to=INT64),
    ]
    assert hazard(model(nodes, X, Y)) == ""
    nodes[0] = helper.make_node("Cast", ["x"], ["f"], to=INT32)
    assert "on INT32 can trap" in hazard(model(nodes, X, Y))


def branches(node):
    branch = helper.make_graph([node], "branch", [], [port("r", None, INT64)])
    nodes = [helper.make_node("If", ["go"], ["y"], then_branch=branch, else_branch=branch)]
    return model(nodes, [*X, port("go", [], TensorProto.BOOL)], Y)


def test_branches_are_looked_at():
    assert "(Div) on INT64" in hazard(branches(helper.make_node("Div", ["x", "x"], ["r"])))
    assert hazard(branches(helper.make_node("Add", ["x", "x"], ["r"]))) == ""


def calling(kind):
    opset = [helper.make_opsetid("", 17)]
    body = [helper.make_node("Div", ["a", "b"], ["q"], name="inner")]
    function = helper.make_function("own", "Half", ["a", "b"], ["q"], body, opset)
    nodes = [helper.make_node("Half", ["x", "x"], ["y"], domain="own")]
    ports = [port("x", ("n",), kind)], [port("y", None, kind)]
    return model(nodes, *ports, functions=[function], opsets=(("", 17), ("own", 1)))


def test_functions_are_looked_at_with_their_arguments():
    assert hazard(calling(INT64)) == "node inner (Div) on INT64 can trap"
    assert hazard(calling(FLOAT)) == ""


def test_overloads_of_a_function_are_told_apart():
    made = calling(INT64)
    other = helper.make_node("Add", ["a", "b"], ["q"])
    opset = [helper.make_opsetid("", 17)]
    made.functions.append(
        helper.make_function("own", "Half", ["a", "b"], ["q"], [other], opset, overload="sum")
    )
    assert "can trap" in hazard(made)
    made.graph.node[0].overload = "sum"
    assert hazard(made) == ""


def test_graphs_and_constants_that_a_call_gives_are_not_trusted():
    inner = helper.make_graph(
        [helper.make_node("Div", ["x", "x"], ["r"])], "inner", [], [port("r", None, INT64)]
    )
    choice = helper.make_node("If", ["go"], ["q"], name="n")
    for name in ("then_branch", "else_branch"):
        choice.attribute.add(name=name, ref_attr_name="given", type=onnx.AttributeProto.GRAPH)
    filled = helper.make_node("ConstantOfShape", ["go"], ["c"])
    filled.attribute.add(name="value", ref_attr_name="given", type=onnx.AttributeProto.TENSOR)
    divided = helper.make_node("Div", ["c", "c"], ["q"], name="n")
    bodies = (([choice], inner, "its graph"), ([filled, divided], constant([1]), "can trap"))
    for body, given, said in bodies:
        opset = [helper.make_opsetid("", 17)]
        function = helper.make_function("own", "F", ["go"], ["q"], body, opset, ["given"])
        nodes = [helper.make_node("F", ["go"], ["y"], domain="own", given=given)]
        inputs = [*X, port("go", [], TensorProto.BOOL)]
        opsets = (("", 17), ("own", 1))
        assert said in hazard(model(nodes, inputs, Y, functions=[function], opsets=opsets))


def test_types_are_those_of_the_operators_schemas():
    """Results that are taken for floating point, or for the first input's type, are that."""
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain not in {"", "ai.onnx.ml"} or not schema.outputs:
            continue
        result = schema.outputs[0].type_str
        types = next(
            (t.allowed_type_strs for t in schema.type_constraints if t.type_param_str == result),
            [result],
        )
        if schema.name in hazards.SAME:
            assert result == schema.inputs[0].type_str, schema.name
        elif schema.name in hazards.FLOATING:
            assert not {"tensor(int32)", "tensor(int64)"} & set(types), schema.name


def test_a_diagonal_may_be_of_whole_numbers():
    nodes = [
        helper.make_node("EyeLike", ["f"], ["e"], dtype=INT64),
        helper.make_node("ReduceMax", ["e"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "x"], ["a"]),
        helper.make_node("Div", ["a", "a"], ["y"]),
    ]
    assert "can trap" in hazard(model(nodes, [*X, port("f")], Y))


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_recurrent_operators_may_get_no_rows(operator):
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], name="n", hidden_size=2)
    inputs = [port("x", ("t", "n", 3)), port("w", None), port("r", None)]
    said = f"node n ({operator}) can trap: a request may give it no rows or no steps"
    assert hazard(model([node], inputs, [port("y", None)])) == said


@pytest.mark.parametrize(("attributes", "safe"), [({"axis": 0}, False), ({}, True)])
def test_unique_along_an_axis_may_get_no_elements(attributes, safe):
    node = helper.make_node("Unique", ["x"], ["y"], **attributes)
    assert (hazard(model([node], [port("x")], [port("y", None)])) == "") == safe


def test_joined_features_may_have_no_rows():
    node = helper.make_node("FeatureVectorizer", ["x", "x"], ["y"], domain="ai.onnx.ml")
    assert "no rows" in hazard(model([node], [port("x")], [port("y", None)]))


@pytest.mark.parametrize(("ratio", "safe"), [(0, False), (2, True)])
def test_regions_are_sampled_a_fixed_number_of_times(ratio, safe):
    node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], sampling_ratio=ratio)
    inputs = [port("x", (1, 2, "h", "w")), port("r", ("n", 4)), port("i", ("n",), INT64)]
    assert (hazard(model([node], inputs, [port("y", None)])) == "") == safe


@pytest.mark.parametrize("name", ["value_int", "value_ints"])
def test_a_constant_that_a_call_gives_is_unknown(name):
    made = calling(INT64)
    body = made.functions[0]
    body.attribute.append("given")
    kind = onnx.AttributeProto.INT if name == "value_int" else onnx.AttributeProto.INTS
    given = helper.make_node("Constant", [], ["c"])
    given.attribute.add(name=name, ref_attr_name="given", type=kind)
    body.node[0].input[1] = "c"
    body.node.insert(0, given)
    made.graph.node[0].attribute.append(
        helper.make_attribute("given", -1 if name == "value_int" else [-1])
    )
    assert hazard(made) == "node inner (Div) on INT64 can trap"


def test_custom_operators_are_not_trusted():
    nodes = [helper.make_node("Anything", ["x"], ["y"], domain="acme", name="n")]
    made = model(nodes, X, Y, opsets=(("", 17), ("acme", 1)))
    assert hazard(made) == "node n (Anything) of acme is a custom operator"
    nodes = [helper.make_node("SkipLayerNormalization", ["x"] * 3, ["y"], domain="com.microsoft")]
    assert "com.microsoft" in hazard(model(nodes, X, Y))


def looping(trips, initializers=()):
    ports = [port("i", [], INT64), port("on", [], TensorProto.BOOL), port("v", None)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Identity", ["v"], ["w"])],
        "body",
        ports,
        [port("go", [], TensorProto.BOOL), port("w", None)],
    )
    nodes = [
        helper.make_node("Shape", ["x"], ["rows"], end=1),
        helper.make_node("Loop", [trips, "", "x"], ["y"], body=body, name="l"),
    ]
    return model(nodes, [port("x"), port("m", [], INT64)], [port("y")], list(initializers))


def test_a_loop_needs_a_bound():
    assert "has no bound on its trips" in hazard(endless())
    for trips in ("", "m"):
        assert hazard(looping(trips)) == "node l (Loop) has no bound on its trips"
    assert "no bound" in hazard(looping("c", [constant(2**62)]))
    assert hazard(looping("c", [constant(100)])) == ""
    assert hazard(looping("rows")) == ""


@pytest.mark.parametrize(("kept", "safe"), [(100, True), (2**62, False), (None, False)])
def test_the_boxes_that_are_kept_need_a_bound(kept, safe):
    node = helper.make_node("NonMaxSuppression", ["x", "s", "c"], ["y"])
    inputs = [port("x", (1, "n", 4)), port("s", (1, "k", "n"))]
    known = [] if kept is None else [constant([kept])]
    inputs += [port("c", (1,), INT64)] * (kept is None)
    assert (hazard(model([node], inputs, Y, known)) == "") == safe


def test_a_kernel_is_fixed_or_a_hazard():
    inputs = [port("x", (1, 4, "h", "w"))]
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="n")
    weights = numpy_helper.from_array(np.ones((2, 4, 3, 3), np.float32), "w")
    assert hazard(model([node], inputs, [port("y", None)], [weights])) == ""
    given = model([node], [*inputs, port("w", None)], [port("y", None)])
    assert hazard(given) == "node n (Conv) may never end: a request decides its kernel"


def test_a_frame_is_fixed_or_a_hazard():
    node = helper.make_node("STFT", ["x", "step", "", "length"], ["y"], name="n")
    inputs = [port("x", (1, "n", 1)), port("length", [], INT64)]
    step, length = constant(4, name="step"), constant(8, name="length")
    assert "can trap" in hazard(model([node], inputs, [port("y", None)], [step]))
    assert hazard(model([node], inputs[:1], [port("y", None)], [step, length])) == ""


def test_plain_models_are_safe():
    for made in (scaled(2), unary("Sin"), unary("Softmax")):
        assert hazard(made) == ""


def test_an_unreadable_graph_is_a_hazard():
    assert hazard_of(b"\x3a\x02\x0a\xff").startswith("its graph cannot be analysed: ")
