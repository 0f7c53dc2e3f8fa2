"""Verification of the changed parts alone, without the roundings of the rest of the network."""

import onnx.parser
import onnx_ir as ir
import pytest
from verifications import HEAD

from gatewave.graphs.verify.graph_difference import graph_difference

STEPS = """agraph (float[N, 512] x) => (float[N, 512] y) <float fine = {30000}, float gain = {60}> {
    g = Sigmoid(x) h = Mul(x, g)
    s = Mul(h, fine) r = Round(s) d = Div(r, fine) e = Mul(d, gain) y = Sin(e) }"""
"""Network with quantisation: a rounding sometimes flips a step, which is 20 tolerances."""

ALIKE = """one = Constant<value = float {1.0}>() minus = Neg(x) grown = Exp(minus)
    under = Add(one, grown) h = Div(x, under)"""
REWRITTEN = STEPS.replace("g = Sigmoid(x) h = Mul(x, g)", ALIKE)


def test_a_flipped_step_is_reported_and_not_judged(check):
    report = check(STEPS, REWRITTEN, local=True)
    assert report.holds, report.summary()
    assert [site.name for site in report.sites] == ["h"]
    assert report.sites[0].difference.used < 1
    (reported,) = report.reported
    assert reported.name == "y"
    assert reported.difference.used > 1
    assert "differences of 1 output are rounding and do not count" in report.summary()
    assert any(
        note.startswith("reported, not judged: output y differs by") for note in report.notes
    )


def test_an_output_of_a_changed_part_may_cancel_as_the_part_may(check):
    """ONNX Runtime's Sigmoid is 0 at -20, and a scalar has no other element to set a scale."""
    silu = "agraph (float x) => (float y) { g = Sigmoid(x) y = Mul(x, g) }"
    same = """agraph (float x) => (float y) { one = Constant<value = float {1.0}>() n = Neg(x)
        e = Exp(n) d = Add(one, e) y = Div(x, d) }"""
    assert check(silu, same, local=True).holds
    assert not check(silu, same.replace("1.0", "1.001"), local=True).holds


WRONG = {
    "a constant": ("float {1.0}", "float {1.001}"),
    "an operand": ("Div(x, under)", "Div(under, x)"),
    "an operator": ("Exp(minus)", "Sigmoid(minus)"),
    "the wiring": ("Neg(x)", "Neg(x_)"),
    "elsewhere": ("Mul(h, fine)", "Mul(x, fine)"),
    "a step": ("Round(s)", "Floor(s)"),
    "a weight": ("gain = {60}", "gain = {60.01}"),
}


@pytest.mark.parametrize(
    ("what", "local"), [*((what, True) for what in WRONG), ("a constant", False), ("a step", False)]
)
def test_a_wrong_rewrite_of_a_noisy_network_is_found(check, what, local):
    before, after = WRONG[what]
    text = (
        REWRITTEN.replace(before, after)
        .replace("x_)", "x2)")
        .replace(
            "one = Const",
            "x2 = Add(x, fine) one = Const" if what == "the wiring" else "one = Const",
        )
    )
    assert text != REWRITTEN
    report = check(STEPS, text, local=local)
    assert not report.holds
    assert report.verdict == "different"


def test_each_changed_part_is_fed_alike(check):
    """The second part gets equal inputs in both models, without differences of the first part."""
    chain = "g1 = Sigmoid(y0) y1 = Mul(y0, g1) s1 = Mul(y1, fine) r1 = Round(s1) y = Div(r1, fine)"
    one = STEPS.replace("y = Sin(e)", f"y0 = Sin(e) {chain}")
    other = one.replace("g = Sigmoid(x) h = Mul(x, g)", ALIKE).replace(
        "g1 = Sigmoid(y0) y1 = Mul(y0, g1)", ALIKE.replace("h = Div(x,", "y1 = Div(y0,")
        .replace("Neg(x)", "Neg(y0)").replace("one", "a").replace("minus", "b")
        .replace("grown", "c").replace("under", "d1"),
    )  # fmt: skip
    report = check(one, other, local=True)
    assert report.holds, report.summary()
    assert [site.name for site in report.sites] == ["h", "y1"]
    assert all(site.difference.used < 1 for site in report.sites)


def found(one, other, head=HEAD):
    models = (ir.from_proto(onnx.parser.parse_model(head + text)) for text in (one, other))
    return graph_difference(*models)


def test_only_what_differs_is_changed():
    part = found(STEPS, REWRITTEN)
    assert part.outputs == ["h"]
    assert part.inputs == (["x"], ["x"])
    assert part.nodes == (["g", "h"], ["one", "minus", "grown", "under", "h"])
    assert found(STEPS, STEPS).outputs == []
    assert found(STEPS, STEPS.replace("{60}", "{61}")).outputs == ["e"]


BODY = """agraph (float[4] x, bool c) => (float[4] y) { n = Neg(x) w = If (c) <
    then_branch = a () => (float[4] t) { t = Sigmoid(n) },
    else_branch = b () => (float[4] e) { e = Neg(x) }> y = Abs(w) }"""


def test_a_body_that_differs_makes_its_node_a_part():
    part = found(BODY, BODY.replace("Sigmoid(n)", "Tanh(n)"))
    assert part.outputs == ["w"]
    assert part.inputs[0] == ["c", "n", "x"]


def test_a_function_that_differs_makes_its_calls_parts():
    text = """agraph (float[4] x) => (float[4] y) { a = f.g(x) b = Neg(a) y = f.g(b) }
        <domain: "f", opset_import: ["" : 17]> g (x) => (y) { s = Sigmoid(x) y = Mul(x, s) }"""
    head = '<ir_version: 8, opset_import: ["" : 17, "f" : 1]>'
    assert found(text, text, head).outputs == []
    assert found(text, text.replace("Mul(x, s)", "Add(x, s)"), head).outputs == ["a", "y"]


def test_an_operator_of_another_meaning_is_changed():
    """ReduceSum has its axes as an input from opset 13 on; Neg is the same in both opsets."""
    text = "agraph (float[4] x) => (float[1] y) { n = Neg(x) y = ReduceMax<keepdims = 1>(n) }"
    old, new = (
        ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {v}]>{text}'))
        for v in (13, 18)
    )
    assert graph_difference(old, new).outputs == ["y"]


@pytest.mark.parametrize("where", ["body", "function"])
def test_parts_with_bodies_and_functions_are_compared(check, where):
    if where == "body":
        one, other, wrong = BODY, "s = Neg(n) t = Neg(s)", "t = Abs(n)"
        one = one.replace("t = Sigmoid(n)", "t = Identity(n)")
        texts = [one, *(one.replace("t = Identity(n)", body) for body in (other, wrong))]
    else:
        text = """agraph (float[4] x) => (float[4] y) { a = f.g(x) y = Neg(a) }
            <domain: "f", opset_import: ["" : 17]> g (x) => (y) { s = Sigmoid(x) y = %s }"""
        texts = [text % body for body in ("Mul(x, s)", "Mul(s, x)", "Add(s, x)")]
    head = '<ir_version: 8, opset_import: ["" : 17, "f" : 1]>'
    report = check(texts[0], texts[1], head, local=True)
    assert report.holds, report.summary()
    assert [site.name for site in report.sites] == ["w" if where == "body" else "a"]
    report = check(texts[0], texts[2], head, local=True)
    assert any(not site.holds for site in report.sites)


def test_a_part_that_cannot_be_run_alone_is_named(check):
    text = """agraph (float[N] x) => (float[M] y) {
        n = Neg(x) s = SequenceConstruct(x, n) y = ConcatFromSequence<axis = 0>(s) }"""
    other = text.replace("axis = 0>(s)", "axis = 0, new_axis = 0>(s)")
    report = check(text, other, local=True)
    assert report.holds
    assert [one.name for one in report.unseen] == ["the changed parts by themselves"]
