"""Random operators: the same numbers in both models, in every runtime, scope and opset."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from verifications import worst

from gatewave.graphs.files import files
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.verify.evaluator import evaluator
from gatewave.graphs.verify.random_replacement import Fixed, can_fix, fix
from gatewave.graphs.verify.verified_files import write_verified

HEAD = '<ir_version: 8, opset_import: ["" : %d]>'


def head(opset):
    return HEAD % opset


OPERATORS = {
    "RandomNormal": ("float[4000, 2]", "y = RandomNormal<shape = [4000, 2], mean = 3.0>()"),
    "RandomUniform": ("float[4000]", "y = RandomUniform<shape = [4000], low = 2.0, high = 4.0>()"),
    "RandomNormalLike": ("float[N]", "y = RandomNormalLike<mean = 3.0>(x)"),
    "RandomUniformLike": ("float[N]", "y = RandomUniformLike<low = 2.0, high = 4.0>(x)"),
    "in float16": ("float16[N]", "y = RandomNormalLike<mean = 3.0, dtype = 10>(x)"),
    "Bernoulli": ("float[N]", "p = Div(x, x) q = Mul(p, part) y = Bernoulli(q)"),
    "Multinomial": ("int64[1, 4000]", "y = Multinomial<sample_size = 4000, dtype = 7>(logs)"),
    "Dropout": ("float[N]", "y = Dropout(x, part, yes)"),
}
NEW = {"Bernoulli": 15}
MEANS = {"Bernoulli": 0.25, "Multinomial": 0.25 * 1 + 0.5 * 2, "Dropout": 1.0}


def model(name, opset=17):
    dtype, body = OPERATORS[name]
    text = f"""{head(opset)} agraph (float[N] x) => ({dtype} y)
        <float part = {{0.25}}, bool yes = {{1}},
         float[1, 3] logs = {{-1.3862944, -1.3862944, -0.6931472}}> {{ {body} }}"""
    return onnx.parser.parse_model(text)


@pytest.mark.parametrize(
    ("name", "opset"),
    [(name, opset) for name in OPERATORS for opset in (13, 17, 22) if opset >= NEW.get(name, 1)],
)
def test_every_operator_is_replaced_alike_in_both_runtimes(name, opset):
    made = model(name, opset)
    fix(made, Fixed(seed=0, alike=False, types={"y": 1}))
    onnx.checker.check_model(made)
    x = np.ones(4000, np.float32)
    session = ort.InferenceSession(made.SerializeToString())
    first, second = (session.run(None, {"x": x})[0] for _ in range(2))
    assert (first == second).all()
    (other,) = evaluator(made).run(None, {"x": x})
    assert first.dtype == other.dtype
    np.testing.assert_allclose(first, other, rtol=1e-6)
    assert float(first.mean()) == pytest.approx(MEANS.get(name, 3.0), rel=0.1)
    assert len(np.unique(first)) > 1


def test_a_type_that_is_not_known_is_left():
    node = model("RandomNormalLike").graph.node[0]
    assert can_fix(node, 15, {})
    assert can_fix(node, 14, {"y": 1})
    assert not can_fix(node, 14, {})
    assert not can_fix(node, 8, {"y": 1})


VOICE = """agraph (float[1, T] text) => (float[1, S] sound) <
    float[1] one = {1}, int64[1] zero = {0}, int64 first = {0}, int64 step = {1}> {
    noise = RandomNormalLike<seed = 3.0>(text)
    gate = Sigmoid(text) hidden = Mul(text, gate) moved = Add(hidden, noise)
    grown = Exp(moved) long = Ceil(grown) all = ReduceSum<keepdims = 0>(long)
    count = Cast<to = 7>(all) times = Range(first, count, step) wide = Cast<to = 1>(times)
    phase = Sin(wide) row = Unsqueeze(phase, zero) more = RandomUniformLike(row)
    sound = Add(row, more) }"""
"""Duration predictor: the length of the sound depends on random numbers."""


def test_sizes_that_hang_on_random_numbers_are_compared(check):
    report = check(VOICE, VOICE.replace("Mul(text, gate)", "Mul(gate, text)"))
    assert report.holds, report.summary()
    assert report.outputs[0].difference.used == 0
    (note,) = report.notes
    assert "random operators (1 RandomNormalLike, 1 RandomUniformLike) draw the same" in note
    assert "with seed 0" in note
    found = worst(check(VOICE, VOICE.replace("Mul(text, gate)", "Mul(gate, gate)")))
    assert found.name == "sound"


def test_operators_are_told_apart_by_their_names(check):
    text = """agraph (float[64] x) => (float[64] y) {
        one = RandomNormalLike(x) other = RandomNormalLike(x) large = Exp(one)
        y = Add(large, other) }"""
    assert check(text, text).holds
    swapped = text.replace("Exp(one)", "Exp(other)").replace("(large, other)", "(large, one)")
    assert not check(text, swapped).holds


def test_operators_of_other_names_all_draw_the_same(check):
    text = "agraph (float[64] x) => (float[64] y) { %s = RandomNormalLike(x) y = Add(x, %s) }"
    assert check(text % ("one", "one"), text % ("other", "other")).holds
    twice = text.replace("Add(x, %s)", "Sub(x, %s)")
    assert not check(text % ("one", "one"), twice % ("other", "other")).holds


SCOPES = {
    "a body": """agraph (float[64] x, bool c) => (float[64] y) { y = If (c) <
        then_branch = a () => (float[64] t) { r = RandomNormalLike(x) t = Add(x, r) },
        else_branch = b () => (float[64] e) { p = Sigmoid(x) e = Bernoulli(p) }> }""",
    "a function": """agraph (float[64] x) => (float[64] y) { y = f.noisy(x) }
        <domain: "f", opset_import: ["" : 17]> noisy (x) => (y) {
            r = RandomNormalLike(x) y = Add(x, r) }""",
}


@pytest.mark.parametrize("where", SCOPES)
def test_they_are_replaced_in_bodies_and_functions(check, where):
    both = '<ir_version: 8, opset_import: ["" : 17, "f" : 1]>'
    report = check(SCOPES[where], SCOPES[where], both)
    assert report.holds, report.summary()
    assert [one.name for one in report.outputs] == ["y"]
    assert not check(SCOPES[where], SCOPES[where].replace("Add(x, r)", "Sub(x, r)"), both).holds


def test_a_runtime_of_another_generator_draws_the_same(check):
    """ONNX Runtime has no Elu in float64, therefore the reference evaluator runs the original."""
    text = """agraph (double[64] x) => (double[64] y) {
        e = Elu(x) r = RandomNormalLike(x) y = Add(e, r) }"""
    lowered = text.replace(
        "e = Elu(x)",
        """zero = Constant<value = double {0}>()
        one = Constant<value = double {1}>() up = Max(x, zero) down = Min(x, zero)
        grown = Exp(down) less = Sub(grown, one) e = Add(up, less)""",
    )
    report = check(text, lowered)
    assert report.holds, report.summary()
    assert {ran.runtime for ran in report.ran} == {"ONNX Runtime", "the onnx reference evaluator"}


def test_fuse_verifies_a_model_of_random_size(saved, tmp_path):
    source = saved(head(17) + VOICE)
    model = files.read(source)
    outcome = fuse(model)
    assert [change.kind for change in outcome.changes if change.output] == ["swish"]
    report = write_verified(model, tmp_path / "new.onnx", source=source)
    assert report.outputs[0].name == "sound"
