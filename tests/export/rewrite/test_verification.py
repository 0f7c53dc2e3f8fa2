"""Verification: what computes the same is found equal, and every kind of difference is found."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import graph
from export.errors import ModelError, NotRunnableError
from export.rewrite.comparison import Plan
from export.rewrite.differences import Tolerance
from export.rewrite.verification import verify

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

SWISH = """
agraph (float[N, M] x) => (float[N, M] y) {
    alpha = Constant<value = float {1.702}>()
    scaled = Mul(alpha, x)
    gate = Sigmoid(scaled)
    y = Mul(x, gate)
}
"""
REARRANGED = """
agraph (float[rows, columns] x) => (float[rows, columns] y) {
    minus = Constant<value = float {-1.702}>()
    one = Constant<value = float {1.0}>()
    scaled = Mul(x, minus)
    grown = Exp(scaled)
    under = Add(one, grown)
    y = Div(x, under)
}
"""


@pytest.fixture
def check(saved):
    """Verifies one graph, in ONNX text, against another, and gives the report."""

    def run(original, rewritten, head=HEAD, **options):
        paths = [
            saved(text if not isinstance(text, str) else head + text, f"{name}.onnx")
            for name, text in (("original", original), ("rewritten", rewritten))
        ]
        return verify(*paths, Plan(**{"timeout": 30.0, **options}))

    return run


def worst(report):
    (found,) = [one for one in report.outputs if not one.holds]
    return found


def test_a_graph_that_is_written_otherwise_is_equal(check):
    report = check(SWISH, REARRANGED)
    assert report.holds, report.summary()
    assert [ran.runtime for ran in report.ran] == ["ONNX Runtime"] * 2
    assert 0 < report.outputs[0].difference.absolute < 1e-5
    assert {case.partition(",")[0] for case in report.cases} >= {"normal", "large", "huge", "NaN"}
    assert "1 output compared in 13 cases" in report.summary()


def test_the_same_seed_gives_the_same_report_and_another_one_another(check):
    ones, same, others = (check(SWISH, REARRANGED, seed=seed) for seed in (1, 1, 2))
    assert ones.as_dict() == same.as_dict()
    assert ones.outputs != others.outputs


DIFFERENT = {
    "a constant": ("1.702", "1.700"),
    "an operator": ("Sigmoid(scaled)", "HardSigmoid(scaled)"),
    "an operand": ("y = Mul(x, gate)", "y = Mul(scaled, gate)"),
    "NaN": (
        "y = Mul(x, gate)",
        "w = Mul(x, gate) n = IsNaN(w) z = Sub(one, one) y = Where(n, z, w)",
    ),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_a_graph_that_computes_something_else_is_found_with_its_place(check, kind):
    one = "one = Constant<value = float {1.0}>() alpha ="
    report = check(SWISH, SWISH.replace(*DIFFERENT[kind]).replace("alpha =", one))
    assert not report.holds
    found = worst(report)
    assert found.name == "y"
    assert len(found.difference.place.index) == 2
    assert found.difference.place.original != found.difference.place.rewritten
    assert report.summary().startswith(f"y{list(found.difference.place.index)} is ")


def test_a_constant_that_is_a_thousandth_off_is_found(check):
    dense = "agraph (float[N] x) => (float[N] y) <float c = {%s}> { y = Mul(x, c) }"
    assert worst(check(dense % "0.5", dense % "0.5005")).difference.relative == pytest.approx(
        1e-3, rel=1e-3
    )


def test_nan_that_is_swallowed_is_found_by_the_case_that_feeds_it(check):
    kept = "agraph (float[N] x) => (float[N] y) { y = Identity(x) }"
    swallowed = """agraph (float[N] x) => (float[N] y) {
        n = IsNaN(x) z = Constant<value = float {0.0}>() y = Where(n, z, x) }"""
    found = worst(check(kept, swallowed))
    assert found.case.startswith("NaN")
    assert np.isnan(found.difference.place.original)


NAIVE = """agraph (float[N] x) => (float[N] y) {
    grown = Exp(x) one = Constant<value = float {1.0}>()
    all = Add(grown, one) y = Div(grown, all) }"""
ROBUST = "agraph (float[N] x) => (float[N] y) { y = Sigmoid(x) }"


def test_what_overflows_in_the_original_only_is_counted_apart(check):
    report = check(NAIVE, ROBUST)
    assert report.holds, report.summary()
    assert report.outputs[0].difference.mended > 0
    assert not check(NAIVE, ROBUST, strict=True).holds


def test_what_overflows_in_the_rewritten_only_is_a_difference(check):
    found = worst(check(ROBUST, NAIVE))
    assert np.isnan(found.difference.place.rewritten)


def test_where_the_original_is_noise_a_difference_says_nothing(check):
    sine = """agraph (float[N] x) => (float[N] y) <float pi = {3.1415927}> {
        angle = Mul(x, pi) y = Sin(angle) }"""
    reduced = """agraph (float[N] x) => (float[N] y) <float pi = {3.1415927}, float two = {2}> {
        half = Div(x, two) whole = Round(half) even = Mul(whole, two) rest = Sub(x, even)
        angle = Mul(rest, pi) y = Sin(angle) }"""
    report = check(sine, reduced)
    assert report.holds, report.summary()
    noisy = [one.name for one in report.dropped if "last bits" in one.why]
    assert "huge, N 32: output y" in noisy
    assert not check(sine, reduced, strict=True).holds
    assert not check(sine, reduced.replace("Sin(angle)", "Cos(angle)")).holds


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


def test_an_axis_that_is_another_is_found_though_square_inputs_would_hide_it(check):
    text = "agraph (float[N, M] x) => (float[K] y) { y = ReduceSum<keepdims = 0>(x, axis) }"
    axis = "<int64[1] axis = {%s}>"
    graphs = [
        text.replace("=> (float[K] y)", f"=> (float[K] y) {axis % number}") for number in "01"
    ]
    place = worst(check(*graphs)).difference.place
    assert (place.original, place.rewritten) == ("float32 of shape [5]", "float32 of shape [3]")


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
    assert worst(check(text, off)).difference.absolute == 1
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


def test_what_only_the_rewritten_model_refuses_is_a_failure(check):
    text = "agraph (float[N] x) => (float[K] y) { y = Identity(x) }"
    narrow = """agraph (float[N] x) => (float[K] y) <int64[1] s = {2}> { y = Reshape(x, s) }"""
    report = check(text, narrow)
    assert not report.holds
    assert "it cannot be run on normal, N 3: " in report.summary()


def test_defaults_are_left_alone_in_one_case_and_replaced_in_another(check):
    text = """agraph (float[N] x, float a = {1.5}) => (float[N] y) { y = Mul(x, a) }"""
    fixed = text.replace("Mul(x, a)", "Mul(x, c)").replace(
        "{ y", "<float c = {1.5}> { y"
    )  # it has the input, and does not read it
    assert check(text, text).holds
    assert "defaults replaced" in worst(check(text, fixed)).case


def test_a_model_that_only_the_reference_runs_is_run_by_it(check):
    newest = '<ir_version: 14, opset_import: ["" : 28]>'
    swiglu = "agraph (float[N] a, float[N] b) => (float[N] y) { y = SwiGLU<alpha = 1.5>(a, b) }"
    lowered = """agraph (float[N] a, float[N] b) => (float[N] y) <float alpha = {%s}> {
        s = Mul(a, alpha) g = Sigmoid(s) h = Mul(a, g) y = Mul(h, b) }"""
    report = check(swiglu, lowered % "1.5", newest)
    assert report.holds, report.summary()
    assert [ran.runtime for ran in report.ran] == ["the onnx reference evaluator", "ONNX Runtime"]
    assert "NOT_IMPLEMENTED" in report.ran[0].why
    assert not check(swiglu, lowered % "1.49", newest).holds


def test_a_custom_operator_that_nothing_knows_is_named(check):
    head = '<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>'
    text = "agraph (float[N] x) => (float[N] y) { y = com.acme.Secret(x) }"
    with pytest.raises(NotRunnableError, match=r"it uses com\.acme, .*reference"):
        check(text, text, head)


def test_a_model_that_hangs_is_ended(check):
    endless = LOOP.replace("int64 n, float", "float").replace("Loop (n, yes", "Loop ('', yes")
    endless = endless.replace("Loop ('', yes, x)", "Loop (n, yes, x)").replace(
        "yes = Const", "n = Constant<value = int64 {9000000000000000000}>() yes = Const"
    )
    quick = "agraph (float[N] x) => (float[N] y) { y = Identity(x) }"
    report = check(quick, endless, timeout=1.0)
    assert not report.holds
    assert "took more than 1 seconds (--timeout)" in report.summary()
    with pytest.raises(NotRunnableError, match="took more than 1 seconds"):
        check(endless, quick, timeout=1.0)


def test_a_model_that_crashes_ends_its_own_process_only(check):
    """ONNX Runtime divides the least integer by -1 as processors do, which ends a process."""
    careless = """agraph (int64[N] i) => (int64[N] k)
        <int64 least = {-9223372036854775808}, int64 one = {1}, int64 zero = {0},
        int64 minus = {-1}> {
        below = Less(i, zero) by = Where(below, minus, one) top = Where(below, least, least)
        k = Div(top, by) }"""
    careful = careless.replace("Div(top, by)", "Mul(top, by)")
    report = check(careless, careful)
    crashed = [one.name for one in report.dropped if "crashed the process, SIGFPE" in one.why]
    assert "large, N 32" in crashed
    assert report.cases[-1] == "normal, N 0"
    assert report.holds
    report = check(careful, careless)
    assert not report.holds
    assert report.failures[0].name == "large, N 32"
    assert "crashed the process, SIGFPE" in report.failures[0].why


def test_what_changes_from_run_to_run_is_left_out_and_said(check):
    text = """agraph (float[N] x) => (float[N] y, float[N] z) {
        y = RandomNormalLike(x) z = Neg(x) }"""
    report = check(text, text)
    assert report.holds
    assert [one.name for one in report.outputs] == ["z"]
    assert ("output y", "it changes from run to run") in {(d.name, d.why) for d in report.dropped}


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


def test_tolerances_can_be_tighter_and_looser(check):
    tight = Tolerance(rtol=0, atol=0)
    assert not check(SWISH, REARRANGED, tolerance=tight).holds
    assert check(SWISH, SWISH, tolerance=tight).holds
    assert check(SWISH, SWISH.replace("1.702", "1.700"), tolerance=Tolerance(rtol=0.1)).holds
    assert check(ROBUST, ROBUST, tolerance=Tolerance(0, 0, ulp=1)).holds


def test_external_data_is_found_beside_each_model_inner_values_and_all(tmp_path):
    weights = np.linspace(-1, 1, 600, dtype=np.float32)
    for name, scale in (("one", 1), ("other", 1), ("off", 1.01)):
        nodes = [
            helper.make_node("Mul", ["x", "w"], ["s"]),
            helper.make_node("Sigmoid", ["s"], ["y"]),
        ]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [600]) for n in "xy"]
        tensor = numpy_helper.from_array((weights * scale).astype(np.float32), "w")
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], [tensor])
        (tmp_path / name).mkdir()
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
            tmp_path / name / "model.onnx",
            save_as_external_data=True,
            location="weights.bin",
        )
    one, other, off = (tmp_path / name / "model.onnx" for name in ("one", "other", "off"))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    report = verify(one, other, Plan(sites=["s"]))
    assert report.holds
    assert [site.name for site in report.sites] == ["s"]
    assert not verify(one, off).holds
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


def test_the_report_is_json(check):
    report = check(ROBUST, NAIVE)
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert found["holds"] is False
    assert found["outputs"][0]["difference"]["used"] == "Infinity"


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


LIBRARY = Path(__file__).parents[3] / "service" / "libgatewave.so"


@pytest.mark.skipif(not LIBRARY.exists(), reason="there is no compiler: no kernels")
def test_operators_of_ours_are_run_with_their_kernels_too(check, exported):
    ours = exported("swish")["value", "float32"]
    report = check(
        ir.to_proto(graph.decomposed(ours)), ir.to_proto(ours), kernels=LIBRARY, sites=["y"]
    )
    assert report.holds, report.summary()
    plain, native = report.outputs
    assert (plain.runtime, native.runtime) == ("ONNX Runtime", "ONNX Runtime with the kernels")
    assert plain.difference.absolute == 0
    assert 0 < native.difference.absolute < 1e-5
    bare = ir.to_proto(ours)
    bare.ClearField("functions")
    report = check(bare, bare, kernels=LIBRARY)
    assert report.holds
    assert {ran.runtime for ran in report.ran} == {"ONNX Runtime with the kernels"}
    with pytest.raises(NotRunnableError, match=r"it uses ai\.gatewave"):
        check(bare, bare)


def test_kernels_that_do_not_load_are_said_to(check, exported, tmp_path):
    (tmp_path / "kernels.so").write_bytes(b"no library")
    ours = ir.to_proto(exported("swish")["value", "float32"])
    report = check(ours, ours, kernels=tmp_path / "kernels.so")
    assert report.holds
    assert any(one.name == "the rewritten model with the kernels" for one in report.dropped)


def test_a_default_must_stay_one(check):
    text = "agraph (float[N] x, float a = {2}) => (float[N] y) { y = Mul(x, a) }"
    report = check(text, text.replace(" = {2}", ""))
    assert report.summary() == "input a has none, and had one"


def test_a_rewritten_model_that_nothing_runs_is_a_failure(check):
    text = "agraph (float[N] x) => (float[N] y) { y = Neg(x) }"
    custom = onnx.parser.parse_model(HEAD + text)
    custom.graph.node[0].domain = "com.acme"
    custom.opset_import.add(domain="com.acme", version=1)
    report = check(text, custom)
    assert not report.holds
    assert "com.acme" in report.summary()


def typed(kind):
    """A model of one input of that type, which it says to have or not."""
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
    with pytest.raises((ModelError, NotRunnableError), match=r"x|map"):
        check(model, model)
