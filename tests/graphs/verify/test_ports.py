"""Inputs and outputs of compared models: types, shapes, defaults, real inputs."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from verifications import HEAD, worst

from gatewave.graphs.errors import ModelError

UNLIKE = {
    "renamed": ("y", "z", "the outputs are z, not y"),
    "input": ("x", "u", "the inputs are u, not x"),
    "dtype": (
        "float[N] y) { y = Identity(x)",
        "double[N] y) { y = Cast<to = 11>(x)",
        "output y is",
    ),
    "rank": (
        "float[N] y) { y",
        "float[N, K] y) { y",
        "output y is float32 [N, K], not float32 [N]",
    ),
    "fixed": ("(float[N] x)", "(float[3] x)", "input x is float32 [3], not float32 [N]"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_what_goes_in_and_out_must_be_alike(check, kind):
    text = "agraph (float[N] x) => (float[N] y) { y = Identity(x) }"
    before, after, words = UNLIKE[kind]
    report = check(text, text.replace(before, after))
    assert not report.holds
    assert report.summary().startswith(words)
    assert not report.ran


BRANCHES = """agraph (float[N] x, bool c) => (float[N] y) {
    y = If (c) <
        then_branch = a () => (float[N] t) { g = Sigmoid(x) t = Mul(x, g) },
        else_branch = b () => (float[N] e) { e = Neg(x) }
    >
}"""
LOOP = """agraph (int64 n, float[N] x) => (float[N] y) {
    yes = Constant<value = bool {1}>()
    y = Loop (n, yes, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t) {
        d = Identity(c) g = Sigmoid(s) t = Mul(s, g) }>
}"""


@pytest.mark.parametrize(("text", "before", "after"), [
    (BRANCHES, "Sigmoid", "HardSigmoid"),
    (BRANCHES, "Neg", "Abs"),
    (LOOP, "Sigmoid", "HardSigmoid"),
], ids=["then", "else", "loop"])  # fmt: skip
def test_every_branch_and_body_is_run(check, text, before, after):
    assert check(text, text).holds
    assert not check(text, text.replace(before, after)).holds


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "double"])
def test_other_floats_are_compared_in_their_own_precision(check, dtype):
    text = f"agraph ({dtype}[N] x) => ({dtype}[N] y) {{ y = Cast<to = 1>(x) }}"
    text = text.replace(
        "y = Cast<to = 1>(x)", "w = Cast<to = 1>(x) s = Sigmoid(w) y = CastLike(s, x)"
    )
    assert check(text, text).holds
    report = check(text, text.replace("Sigmoid(w)", "HardSigmoid(w)"))
    assert worst(report).dtype == {"double": "float64"}.get(dtype, dtype)


def test_integers_bools_and_strings_are_compared_exactly(check):
    text = """agraph (int32[N] i, bool[N] b, string[N] s) => (int32[N] j, bool[N] c, string[N] t) {
        j = Identity(i) c = Identity(b) t = Identity(s) }"""
    assert check(text, text).holds
    off = text.replace("j = Identity(i)", "one = Constant<value = int32 {1}>() j = Add(i, one)")
    place = worst(check(text, off)).difference.place
    assert place.rewritten == place.original + 1
    assert worst(check(text, text.replace("c = Identity", "c = Not"))).name == "c"


def test_indices_stay_within_the_table_and_reach_all_of_it(check):
    text = """agraph (int64[B, T] ids) => (float[B, T, 2] y)
        <float[3, 2] table = {1, 2, 3, 4, 5, 6}> { y = Gather(table, ids) }"""
    assert check(text, text).holds
    assert not check(text, text.replace("5, 6}", "5, 7}")).holds


def test_what_the_original_refuses_is_dropped_and_said(check):
    text = """agraph (float[N, K] x) => (float[N, J] y) <int64[2] s = {-1, 32}>
        { y = Reshape(x, s) }"""
    report = check(text, text)
    assert report.holds
    assert any(dropped.name == "normal, N 3, K 5" for dropped in report.dropped)
    assert "normal, N 2, K 32" in report.cases


def test_defaults_are_left_alone_in_one_case_and_replaced_in_another(check):
    text = """agraph (float[N] x, float a = {1.5}) => (float[N] y) { y = Mul(x, a) }"""
    fixed = text.replace("Mul(x, a)", "Mul(x, c)").replace(
        "{ y", "<float c = {1.5}> { y"
    )  # it has the input, and does not read it
    assert check(text, text).holds
    assert "defaults replaced" in worst(check(text, fixed)).case


def test_a_scalar_default_is_replaced_by_numbers_of_both_signs(check):
    text = """agraph (float[N] x, float a = {1.5}) => (float[N] y) { y = Mul(x, a) }"""
    magnitude = text.replace("{ y = Mul(x, a)", "{ b = Abs(a) y = Mul(x, b)")
    assert check(text, text).holds
    assert "of the other sign" in worst(check(text, magnitude)).case


def test_values_within_the_graphs_are_compared_too(check):
    text = """agraph (float[N] x) => (float[N] y) { g = Sigmoid(x) s = Mul(x, g) z = Sub(s, s)
        y = Add(z, x) }"""
    report = check(text, text.replace("Sigmoid", "HardSigmoid"), sites=["s", "t"])
    (site,) = report.sites
    assert (site.name, site.holds) == ("s", False)
    assert all(one.holds for one in report.outputs)
    assert [one.name for one in report.unseen] == ["t"]


def test_real_inputs_come_first_and_others_follow(check):
    text = "agraph (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }"
    report = check(text, text, inputs={"x": np.ones((2, 3), np.float32)})
    assert report.cases[0] == "the inputs given"
    assert len(report.cases) > 5
    with pytest.raises(ModelError, match="the model has no input z; input x is missing"):
        check(text, text, inputs={"z": np.ones(3)})
    with pytest.raises(ModelError, match="it refuses the inputs given"):
        check(text, text, inputs={"x": np.ones((2, 4), np.float32)})


def test_sequences_are_compared_element_by_element(check):
    text = """agraph (seq(float[N]) x) => (seq(float[N]) y) {
        at = Constant<value = int64 {1}>() last = SequenceAt(x, at) w = %s(last)
        y = SequenceInsert(x, w) }"""
    report = check(text % "Sigmoid", text % "Sigmoid")
    assert report.holds, report.summary()
    assert {one.name for one in report.outputs} == {"y[]", "y[0]", "y[1]", "y[2]"}
    assert worst(check(text % "Sigmoid", text % "HardSigmoid")).name == "y[2]"
    shorter = text.replace("y = SequenceInsert(x, w)", "y = SequenceConstruct(w, w)") % "Sigmoid"
    assert not check(text % "Sigmoid", shorter).holds


def test_an_input_of_any_rank_is_given_some(check):
    text = "agraph (float[N] x) => (float[N] y) { y = Sigmoid(x) }"
    models = [onnx.parser.parse_model(HEAD + t) for t in (text, text.replace("Sig", "HardSig"))]
    for model in models:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.ClearField("shape")
    report = check(models[0], models[0])
    assert report.holds, report.summary()
    assert {"normal, rank 2, axis 0 3, axis 1 5", "normal, rank 2, axis 0 2, axis 1 32"} <= {
        *report.cases
    }
    assert not check(*models).holds


def test_a_default_must_stay_one(check):
    text = "agraph (float[N] x, float a = {2}) => (float[N] y) { y = Mul(x, a) }"
    report = check(text, text.replace(" = {2}", ""))
    assert report.summary() == "input a has none, and had one"


def typed(kind):
    """Return a model that applies OptionalHasElement to an input of that type."""
    node = helper.make_node("OptionalHasElement", ["x"], ["y"])
    ends = (
        helper.make_value_info("x", kind),
        helper.make_tensor_value_info("y", TensorProto.BOOL, []),
    )
    drawn = helper.make_graph([node], "g", [ends[0]], [ends[1]])
    return helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_an_optional_input_is_given_and_left_out(check):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])
    has = typed(helper.make_optional_type_proto(tensor))
    report = check(has, has)
    assert report.holds
    assert any("defaults replaced" in case for case in report.cases)
    always = onnx.ModelProto.FromString(has.SerializeToString())
    always.graph.node[0].CopyFrom(
        helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.array(True)))
    )
    assert "defaults replaced" in worst(check(has, always)).case


def test_an_input_that_nothing_can_be_drawn_for_is_named(check):
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    model = typed(helper.make_map_type_proto(TensorProto.STRING, tensor))
    with pytest.raises(ModelError, match="input x: inputs of its type cannot be generated"):
        check(model, model)
