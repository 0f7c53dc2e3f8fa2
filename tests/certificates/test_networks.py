"""Certificates of models: comparisons that count for a runtime, and exclusions."""

import dataclasses
import itertools
import time
from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from gatewave.certificates import baseline_run, certification, reproduction
from gatewave.certificates.baseline import with_baseline
from gatewave.certificates.certification import CertificationPlan
from gatewave.certificates.document import Allowed
from gatewave.certificates.expected import Expected
from gatewave.certificates.node_comparison import NodeWalk
from gatewave.certificates.report import pages
from gatewave.certificates.runtimes import catalogue
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.errors import ModelError, NotRunnableError
from gatewave.graphs.evidence import Evidence
from gatewave.graphs.files import files
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.samples import Case

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
ORT = "onnxruntime"
SECONDS = 600.0
"""Limit on the start of a runtime and on each run: a busy machine takes minutes."""
HALVES = HEAD + "(float[N] x) => (float[M] y) { y, other = Split <axis = 0> (x) }"
"""Split into uneven halves: the reference evaluator computes it, ONNX Runtime rejects it."""


@pytest.fixture
def certified(tmp_path):
    def certified(text, *names):
        path = tmp_path / "model.onnx"
        onnx.save(onnx.parser.parse_model(text), path)
        runtimes = [catalogue.find(name) for name in names]
        return certification.of_model(path, CertificationPlan(runtimes=runtimes, seconds=SECONDS))

    return certified


def test_what_one_input_is_refused_for_hides_no_others(certified):
    (row,) = certified(HALVES, "onnxruntime").rows
    (cell,) = row.cells
    assert cell.verdict == "refused"
    assert "cannot be split evenly" in cell.why
    count, _, total = cell.why.partition(" inputs")[0].split()
    verdicts = [tried.verdict for tried in cell.cases]
    assert 0 < int(count) < int(total) == len(cell.cases)
    assert verdicts.count("refused") == int(count)
    assert verdicts.count("exact") == int(total) - int(count)
    assert cell.elements > 0
    assert cell.evidence.inputs == verdicts.count("exact")


def test_the_baseline_is_not_compared_with_itself(certified):
    text = HEAD + "(float[N] x) => (float[N] y) { y = Neg(x) }"
    certificate = certified(text, "reference", "onnxruntime", "numpy", "torch")
    assert certificate.baseline.level == "agreed"
    assert certificate.baseline.by[0] == "the onnx reference evaluator"
    assert {"onnx", "onnxruntime"} <= {*certificate.baseline.versions}
    assert "which agree" in certificate.truth
    assert certificate.holds
    assert [len(row.cells) for row in certificate.rows] == [0, 1, 0, 0]
    whys = [row.why for row in certificate.rows if not row.cells]
    assert "its values are the baseline" in whys[0]
    assert all("runs no models" in why for why in whys[1:])


def test_where_the_reference_evaluator_refuses_onnx_runtime_says_what_is_due(certified):
    head = HEAD.replace("17]", '17, "com.microsoft" : 1]')
    text = head + "(float[N] x) => (float[N] y) { y = com.microsoft.QuickGelu(x) }"
    certificate = certified(text, "reference", "onnxruntime")
    assert certificate.baseline.level == "single"
    assert "com.microsoft" in certificate.baseline.unchecked["y"]
    assert certificate.truth.startswith(
        "ONNX Runtime without its optimisations alone; 0 of 1 nodes"
    )
    assert [[cell.verdict for cell in row.cells] for row in certificate.rows] == [["refused"], []]
    assert not certificate.holds


def test_the_certificate_says_how_each_output_was_compared(certified):
    text = HEAD + "(float[N] x) => (float[N] y, int64[M] n) { y = Exp(x) n = Shape(x) }"
    (row,) = certified(text, "onnxruntime").rows
    y, n = row.cells
    assert y.allowed == "0.0001 of the number, or 0.0001 of the scale around it"
    assert n.allowed == "none: equality is required"
    assert len(y.model) == 64
    assert {tried.name.partition(",")[0] for tried in y.cases} >= {"normal", "NaN", "infinities"}


def test_a_baseline_that_takes_its_time_is_asked_less_and_it_is_said(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEAD + "(float[N] x) => (float[N] y) { y = Neg(x) }"), path)
    seconds = itertools.count(0, SECONDS / 3)
    monkeypatch.setattr(baseline_run, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    made = with_baseline(path, 0, SECONDS)
    assert not made.whole
    assert len(made.expected) == 3
    assert "at the time limit (--timeout)" in made.said()


RANDOM = {
    "an operator": "y = RandomNormalLike(x)",
    "dropping out": "ratio = Constant<value_float = 0.5>() yes = Constant<value = bool {1}>() "
    "y = Dropout(x, ratio, yes)",
}


@pytest.mark.parametrize("random", RANDOM)
def test_what_changes_from_run_to_run_is_left_out(certified, random):
    body = f"z = Neg(x) {RANDOM[random]}"
    certificate = certified(HEAD + f"(float[N] x) => (float[N] z, float[N] y) {{ {body} }}", ORT)
    assert [*certificate.left_out] == ["y"]
    assert [cell.subject for _, cell in certificate.cells()] == ["z"]


def test_a_model_without_comparable_outputs_is_refused(certified):
    random = RANDOM["an operator"]
    with pytest.raises(NotRunnableError, match="no output can be certified: output y"):
        certified(HEAD + f"(float[N] x) => (float[N] y) {{ {random} }}", ORT)


OTHERS = {
    "a sequence out": ("(float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }", "output"),
    "a sequence in": ("(seq(float[N]) x) => (float[M] y) { y = ConcatFromSequence<axis = 0>(x) }",
                      "input"),
    "nothing": ("(float[N] x) => () { y = Neg(x) }", "it has no outputs"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_tensor_is_told(certified, other):
    text, says = OTHERS[other]
    with pytest.raises(ModelError, match=says):
        certified(HEAD + text, ORT)


def test_an_unstable_element_excuses_no_others(tmp_path):
    # The sine of 1e16 · x is noise in float64, that of x is not: a float32 sine is no match for it.
    path = tmp_path / "model.onnx"
    text = """(double[n] x) => (double[m] y) <double big = {1e16}>
        { a = Sin(x) b = Mul(x, big) c = Sin(b) y = Concat<axis = 0>(a, c) }"""
    onnx.save(onnx.parser.parse_model(HEAD + text), path)
    made = with_baseline(path, 0, SECONDS)
    usual = next(expected for expected in made.expected if expected.case.name.startswith("0 to 1"))
    y = usual.outputs["y"]
    half = len(y) // 2
    for index, holds in ((half + 3, True), (3, False)):
        other = y.copy()
        other[index] = np.float32(other[index])
        assert (usual.between("y", other, made.tolerance).used <= 1) == holds
    assert usual.between("y", y.astype(np.float32).astype(float), made.tolerance).wrong > 0


def expected(values, inputs, *, extreme, moved=None):
    y = np.array(values, np.float32)
    case = Case("huge", {"x": np.array(inputs, np.float32)}, extreme)
    return Expected(case, {"y": y}, [{"y": y if moved is None else np.array(moved, np.float32)}])


HUGE = expected([np.inf, np.nan, 2.0, 3e38], [1e38, -1e38], extreme=True)


@pytest.mark.parametrize(
    "got", [[1.0, 1.0, 2.0, np.inf], [np.nan, np.inf, 2.0, np.nan], [np.inf, np.nan, 2.0, 3e38]]
)
def test_what_overflows_in_one_order_only_is_passed_over(got):
    assert HUGE.between("y", np.array(got, np.float32), Allowance()).used <= 1


def test_what_is_finite_in_both_is_compared():
    got = np.array([np.inf, np.nan, 3.0, 1e38], np.float32)
    found = HUGE.between("y", got, Allowance())
    assert found.used > 1
    assert found.wrong == 1  # the scale is that of 3e38, but for the difference of 2e38
    assert HUGE.passed_over("y", got).tolist() == [True, True, False, False]


@pytest.mark.parametrize("extreme", [False, True])
def test_what_is_made_of_infinities_or_of_usual_numbers_has_to_be_the_same(extreme):
    inputs = [np.inf, 0.0] if extreme else [1.0, 2.0]
    wanted = expected([0.0, 1.0], inputs, extreme=extreme)
    got = np.array([np.nan, 1], np.float32)
    assert not wanted.passed_over("y", got).any()
    assert wanted.between("y", got, Allowance()).used > 1


def test_what_a_step_of_the_inputs_makes_infinite_is_passed_over():
    wanted = expected([1.0, 2.0], [0.5, 0.5], extreme=False, moved=[np.inf, 2.0])
    assert wanted.between("y", np.array([np.nan, 2], np.float32), Allowance()).used <= 1
    assert wanted.between("y", np.array([1, np.nan], np.float32), Allowance()).used > 1


def test_an_index_that_a_step_of_the_inputs_changes_is_passed_over():
    case = Case("normal", {"x": np.zeros(2, np.float32)})
    wanted = Expected(case, {"y": np.array([1, 2])}, [{"y": np.array([1, 3])}])
    assert wanted.between("y", np.array([1, 0]), Allowance()).used <= 1
    assert wanted.between("y", np.array([0, 2]), Allowance()).used > 1


def test_another_shape_or_no_output_is_a_difference():
    for got in (None, np.zeros(3, np.float32), np.zeros(4)):
        assert HUGE.between("y", got, Allowance()).used == np.inf


WRONG_RESIZE = (
    """r = Resize<coordinate_transformation_mode = "align_corners", mode = "cubic"> (x, , s)"""
)
"""onnx's evaluator uses the corners of the size before rounding: see docs/evaluator.md."""

SIZED = HEAD.replace("17", "19") + "(float[1,1,4,5] x) => (float[1,1,A,B] y, float[1,1,4,5] z) "


def test_a_node_that_is_computed_differently_is_named(certified):
    body = f"<float[4] s = {{1., 1., 0.6, 0.6}}> {{ {WRONG_RESIZE} y = Relu(r) z = Neg(x) }}"
    certificate = certified(SIZED + body, "reference", ORT)
    (node,) = certificate.baseline.differing
    assert (node.node, node.operator, node.opset, node.dtype) == ("r", "Resize", 19, "float32")
    assert "by the onnx reference evaluator" in node.says
    assert len(node.cases) == len({*node.cases}) > 3
    y, z = certificate.rows[1].cells
    assert (y.verdict, z.verdict) == ("no baseline", "exact")
    assert {tried.verdict for tried in y.cases} == {"no baseline"}
    assert node.words() in y.why
    assert y.elements == 0
    assert y.evidence is None
    assert not certificate.holds
    assert certificate.baseline.level == "agreed"
    page = pages.markdown(certificate)
    assert "no baseline after node r" in page
    assert "| ONNX Runtime, as installed | ? |" in page


def test_an_operator_in_doubt_is_no_baseline_where_one_runtime_runs_the_model(tmp_path):
    path = tmp_path / "model.onnx"
    head = SIZED.replace("19]", '19, "com.microsoft" : 1]')
    body = f"<float[4] s = {{1., 1., 0.6, 0.6}}> {{ {WRONG_RESIZE} y = Relu(r) "
    onnx.save(onnx.parser.parse_model(head + body + "z = com.microsoft.QuickGelu(x) }"), path)
    made = with_baseline(path, 0, SECONDS)
    assert [node.node for node in made.baseline.differing] == ["r"]
    assert made.baseline.level == "single"
    assert (made.baseline.nodes, made.baseline.checked) == (3, 1)
    assert all({*expected.without} == {"y"} for expected in made.expected)


def test_operators_are_checked_where_one_runtime_refuses_the_model(certified):
    head = HEAD.replace("17", "25").replace("ir_version: 8", "ir_version: 11")
    text = head + "(float[N,4] x) => (float[N,4] y) { s = Swish(x) t = Tanh(s) y = Exp(t) }"
    certificate = certified(text, "reference", ORT)
    baseline = certificate.baseline
    assert (baseline.level, baseline.nodes, baseline.checked) == ("single", 3, 2)
    assert "NOT_IMPLEMENTED" in baseline.unchecked["s"]
    assert "2 of 3 nodes" in certificate.truth


BODIES = {
    "If": "c = Less(x0, zero) y = If (c) <"
    "then_branch = a () => (float[N] p) { p = Neg(x) },"
    "else_branch = b () => (float[N] q) { q = Mul(x, x0) }>",
    "a sequence": "s = SequenceConstruct(x, x) n = Constant<value = int64 {1}>() "
    "y = SequenceAt(s, n)",
}


@pytest.mark.parametrize("kind", BODIES)
def test_nodes_with_bodies_and_sequences_are_fed_alike(tmp_path, kind):
    text = "(float[N] x) => (float[N] y) <float zero = {0.}> { x0 = ReduceSum<keepdims = 0>(x) "
    model = onnx.parser.parse_model(HEAD + text + BODIES[kind] + "}")
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    case = Case("normal", {"x": np.array([1.0, -3.0, 0.5], np.float32)})
    runtimes = catalogue.find("reference"), catalogue.PLAIN
    with (
        RuntimeClient(runtimes[0], SECONDS) as first,
        RuntimeClient(runtimes[1], SECONDS) as second,
    ):
        walk = NodeWalk(files.read(path), first, second, Allowance(), 0)
        walked = walk.walk([case], time.monotonic() + SECONDS)
    assert not walked.unchecked
    assert not walked.differing
    assert walked.checked == walked.nodes == 3
    assert walked.verified_outputs == {"normal": {"y"}}


QUANTISED = (
    HEAD
    + """(float[N,64] x) => (float[N,4] y)
    <float[64,4] w = {WEIGHTS}, float s = {0.02}, uint8 z = {128}> {
    q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = Tanh(d)
    r = QuantizeLinear(e, s, z) f = DequantizeLinear(r, s, z) y = MatMul(f, w) }"""
)


def test_a_step_of_quantisation_is_noise_and_more_is_not(tmp_path):
    weights = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    text = QUANTISED.replace("WEIGHTS", ", ".join(f"{w:.6f}" for w in weights))
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    made = with_baseline(path, 0, SECONDS)
    usual = next(expected for expected in made.expected if expected.case.name.startswith("0 to 1"))
    assert usual.stepped
    y = usual.outputs["y"]
    step = 0.02 * float(np.abs(weights).max())
    flipped, wrong = y.copy(), y.copy()
    flipped[0, 0] += step
    wrong[0, 0] += 20 * step
    assert usual.between("y", flipped, made.tolerance).used <= 1
    assert usual.between("y", wrong, made.tolerance).used > 1


def test_what_two_implementations_differ_by_is_noise_where_every_node_agrees():
    case = Case("normal", {"x": np.zeros(3, np.float32)})
    want = np.array([1.0, 2.0, 3.0], np.float32)
    apart = want + np.array([0.0, 0.01, 0.0], np.float32)
    for other, holds in (({}, False), ({"y": apart}, True)):
        expected = Expected(case, {"y": want}, [], other=other)
        got = want + np.array([0.02, 0.0, 0.0], np.float32)
        assert (expected.between("y", got, Allowance()).used <= 1) == holds


def test_a_size_that_hangs_on_the_last_bits_has_no_baseline(certified):
    body = "f = Sub(x, half) g = Floor(f) n = NonZero(g) y = Cast<to = 1>(n)"
    text = "(float[N] x) => (float[1,M] y) <float half = {0.}> { " + body + " }"
    certificate = certified(HEAD + text, ORT)
    (cell,) = certificate.rows[0].cells
    assert cell.verdict == "no baseline"
    assert "its size changes with the last bits of the inputs" in cell.why


def test_the_inputs_given_are_the_only_case(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEAD + "(float[N] x) => (float[N] y) { y = Exp(x) }"), path)
    given = tmp_path / "real.npz"
    arrays = {"x": np.array([0.5, 2.0], np.float32)}
    np.savez(given, **arrays)
    bounds = Allowed(rtol=1e-3, ulp=2.0)
    runtimes = [catalogue.find(ORT)]
    plan = CertificationPlan(
        runtimes=runtimes, seconds=SECONDS, tolerance=bounds, inputs=given, arrays=arrays
    )
    made = certification.of_model(path, plan)
    (cell,) = made.rows[0].cells
    assert [tried.name for tried in cell.cases] == ["the inputs given"]
    assert cell.elements == 2
    assert cell.evidence == Evidence(level="sampled", inputs=1, drawn="given")
    assert cell.allowed.startswith("0.001 of the number")
    assert "2 units in the last place" in cell.allowed
    assert made.tolerance == bounds
    assert made.inputs.file == "real.npz"
    assert len(made.inputs.sha256["x"]) == 64
    assert "The inputs are those of real.npz" in pages.markdown(made)
    written = tmp_path / "model.onnx.certificate.json"
    written.write_text(made.to_json())
    assert reproduction.check(written, SECONDS) == []
    np.savez(given, x=np.array([0.5, 3.0], np.float32))
    change = reproduction.check(written, SECONDS)[0]
    assert (change.what, change.matters) == ("the inputs", True)
    with pytest.raises(ModelError, match="the model has no input z; input x is missing"):
        certification.of_model(path, dataclasses.replace(plan, arrays={"z": arrays["x"]}))
