"""Verification of pairs of models: equal ones pass, and every kind of difference is found."""

import json

import numpy as np
import pytest
from verifications import worst

from gatewave.graphs.verify.allowance import Allowance

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
    excused_overflows = report.outputs[0].difference.excused_overflows
    assert excused_overflows > 0
    assert report.summary().endswith(
        f"cases, except {excused_overflows} numbers where one of the models overflows"
    )
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
    noisy = [one.name for one in report.dropped if "rounding the inputs" in one.why]
    assert "huge, N 32: output y" in noisy
    assert not check(sine, reduced, strict=True).holds
    assert not check(sine, reduced.replace("Sin(angle)", "Cos(angle)")).holds


def test_an_axis_that_is_another_is_found_though_square_inputs_would_hide_it(check):
    text = "agraph (float[N, M] x) => (float[K] y) { y = ReduceSum<keepdims = 0>(x, axis) }"
    axis = "<int64[1] axis = {%s}>"
    graphs = [
        text.replace("=> (float[K] y)", f"=> (float[K] y) {axis % number}") for number in "01"
    ]
    place = worst(check(*graphs)).difference.place
    assert (place.original, place.rewritten) == ("float32 of shape [5]", "float32 of shape [3]")


def test_tolerances_can_be_tighter_and_looser(check):
    tight = Allowance(rtol=0, atol=0)
    assert not check(SWISH, REARRANGED, tolerance=tight).holds
    assert check(SWISH, SWISH, tolerance=tight).holds
    assert check(SWISH, SWISH.replace("1.702", "1.700"), tolerance=Allowance(rtol=0.1)).holds
    assert check(ROBUST, ROBUST, tolerance=Allowance(0, 0, ulp=1)).holds


def double(text):
    return f"agraph (double[N, M] x) => (double[N, M] y) {{ {text} }}"


NEWEST = '<ir_version: 10, opset_import: ["" : 22]>'
EXACT_HARDSWISH = """
agraph (double[N, M] x) => (double[N, M] y)
<double three = {3}, double six = {6}, double zero = {0}> {
    moved = Add(x, three) low = Max(moved, zero) clipped = Min(low, six)
    product = Mul(x, clipped) y = Div(product, six)
}
"""


def test_float64_is_coarse_where_the_operator_itself_is(check):
    coarse = double("y = HardSwish(x)")
    for pair in ((coarse, EXACT_HARDSWISH), (EXACT_HARDSWISH, coarse)):
        report = check(*pair, NEWEST)
        assert report.holds, report.summary()
        assert report.outputs[0].difference.relative > 1e-10
        (note,) = report.notes
        assert "HardSwish with constants of float32" in note
    strict = check(coarse, EXACT_HARDSWISH, NEWEST, tolerance=Allowance(rtol=1e-10))
    assert not strict.holds
    other = EXACT_HARDSWISH.replace("three = {3}", "three = {3.00001}")
    assert not check(coarse, other, NEWEST).holds


def test_float64_is_exact_beside_an_operator_that_is_coarse_in_float32_only(check):
    text = """agraph (double[N, M] x) => (double[N, M] y, double[N, M] z) {
        c = Constant<value = double {3.141592653589793}>() y = Mul(x, c)
        f = Cast<to = 1>(x) h = HardSwish(f) z = Cast<to = 11>(h) }"""
    off = text.replace("3.141592653589793", "3.1415927")
    report = check(text, off, NEWEST)
    assert not report.notes
    assert not report.holds
    wide = text.replace("Cast<to = 1>", "Identity")
    assert check(wide, wide, NEWEST).notes


def test_float64_is_exact_where_every_operator_is(check):
    off = EXACT_HARDSWISH.replace("three = {3}", "three = {3.00000001}")
    report = check(EXACT_HARDSWISH, off, NEWEST)
    assert not report.holds
    assert not report.notes
    narrow = check(*[double("y = HardSwish(x)").replace("double", "float")] * 2, NEWEST)
    assert narrow.holds
    assert not narrow.notes


THRESHOLDS = {
    "a float": ("float", "c = Constant<value = float {5.0}>()", "5.0", "5.01"),
    "beyond the range": ("float", "c = Constant<value = float {4000.0}>()", "4000.0", "4000.5"),
    "a double": ("double", "c = Constant<value = double {5.0}>()", "5.0", "5.0000000001"),
    "an integer": ("int64", "c = Constant<value = int64 {300}>()", "300", "301"),
    "another": ("int32", "c = Constant<value = int32 {-70000}>()", "-70000", "-70001"),
}


@pytest.mark.parametrize(
    ("what", "test"),
    [
        *((what, "Greater(x, c)") for what in THRESHOLDS),
        ("a float", "Less(c, x)"),
        ("an integer", "GreaterOrEqual(x, c)"),
    ],
)
def test_a_threshold_that_is_moved_is_found(check, what, test):
    dtype, constant, one, other = THRESHOLDS[what]
    text = f"agraph ({dtype}[8] x) => ({dtype}[8] y) {{ {constant} t = {test} n = Neg(x) "
    text += "y = Where(t, n, x) }"
    assert not check(text, text.replace(one, other)).holds
    assert check(text, text).holds


CLIPPED = {
    "int8": ("Max(x, c)", "-110"),
    "uint8": ("Min(x, c)", "254"),
    "int64": ("Min(x, c)", "9223372036854775806"),
    "int32": ("Max(x, c)", "-2147483647"),
}


@pytest.mark.parametrize("dtype", CLIPPED)
def test_integers_at_the_end_of_their_type_are_tried(check, dtype):
    operator, limit = CLIPPED[dtype]
    head = f"agraph ({dtype}[4] x) => ({dtype}[4] y)"
    clipped = f"{head} {{ c = Constant<value = {dtype} {{{limit}}}>() y = {operator} }}"
    assert not check(f"{head} {{ y = Identity(x) }}", clipped).holds


def test_the_report_is_json(check):
    report = check(ROBUST, NAIVE)
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert found["holds"] is False
    assert found["outputs"][0]["difference"]["used"] == "Infinity"


def test_a_sequence_inside_is_compared_part_by_part(check):
    text = """agraph (float[N] x) => (float[M] y) {
        n = Neg(x) s = SequenceConstruct(x, n) y = ConcatFromSequence<axis = 0>(s) }"""
    report = check(text, text, sites=["s"])
    assert [site.name for site in report.sites] == ["s[]", "s[0]", "s[1]"]


OLD = '<ir_version: 4, opset_import: ["" : 8]>'
"""Opset too old for the replacement of random operators: each run draws new numbers."""

RANDOM = "agraph (float[4] x) => (float[4] y) { r = RandomNormalLike(x) y = Add(x, r) }"


def test_a_model_without_comparable_outputs_fails(check):
    negated = "agraph (float[4] x) => (float[4] y) { y = Neg(x) }"
    assert check(RANDOM, negated).verdict == "different"
    report = check(RANDOM, negated, OLD)
    assert not report.holds
    assert report.verdict == "not compared"
    assert report.cases
    assert report.evidence is None
    assert report.level == "none"
    assert report.as_dict()["inputs"] == 0
    assert "every output changes from run to run" in report.summary()


def test_what_is_not_random_is_compared_all_the_same(check):
    both = RANDOM.replace("=> (float[4] y)", "=> (float[4] y, float[4] z)")
    ones, others = (both.replace("y =", f"z = {op}(x) y =") for op in ("Neg", "Abs"))
    assert [one.name for one in check(ones, ones, OLD).outputs] == ["z"]
    assert check(ones, ones, OLD).holds
    assert check(ones, others, OLD).verdict == "different"


LATE = {
    "a coin": "p = Sigmoid(x) y = Bernoulli(p)",
    "in a body": """c = Constant<value = bool {1}>() y = If (c) <
        then_branch = a () => (float[1] t) { p = Sigmoid(x) t = Bernoulli(p) },
        else_branch = b () => (float[1] e) { e = Identity(x) }>""",
    "taken by a body": """c = Constant<value = bool {1}>() p = Sigmoid(x) r = Bernoulli(p)
        y = If (c) < then_branch = a () => (float[1] t) { t = Neg(r) },
                     else_branch = b () => (float[1] e) { e = Identity(x) }>""",
}


@pytest.mark.parametrize("where", LATE)
def test_a_model_equals_itself_though_its_randomness_shows_late(check, where):
    text = f"agraph (float[1] x) => (float[1] y, float[1] z) {{ z = Neg(x) {LATE[where]} }}"
    for seed in range(4):
        report = check(text, text, seed=seed)
        assert report.holds, report.summary()


DETECTION = """agraph (float[1, 1, N] x) => (float[1, 5, N] y) {
    side = Constant<value = float {300}>() s = Sigmoid(x) box = Mul(s, side)
    a = GELU(x) score = Sigmoid(a) y = Concat<axis = 1>(box, box, box, box, score) }"""


def test_a_large_row_does_not_hide_a_small_one(check):
    exact = DETECTION.replace("GELU", "Gelu")
    tanh = DETECTION.replace("GELU", 'Gelu<approximate = "tanh">')
    assert check(exact, exact, NEWEST).holds
    found = worst(check(exact, tanh, NEWEST))
    assert found.difference.place.index[1] == 4
    turned = [
        text.replace("[1, 5, N] y", "[N, 5] y")
        .replace("y = Concat", "w = Concat")
        .replace("score) }", "score) v = Squeeze(w, one) y = Transpose(v) }")
        .replace("{\n    side", "<int64[1] one = {0}> {\n    side")
        for text in (exact, tanh)
    ]
    assert worst(check(*turned, NEWEST)).difference.place.index[1] == 4


def test_native_verification_needs_onnx_runtime(check):
    refused = "agraph (float[N, M] x) => (float[N, M] y) { y = SwiGLU(x, x) }"
    latest = '<ir_version: 13, opset_import: ["" : 28]>'
    assert check(refused, refused, latest).holds
    report = check(refused, refused, latest, native=True)
    assert not report.holds
    assert "nothing runs it: ONNX Runtime" in report.summary()
