"""Budget of cases: small and cheap ones come first, and the omitted ones are named."""

import math

import onnx.parser
import onnx_ir as ir
import pytest
from verifications import HEAD

from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.verify import case_plan
from gatewave.graphs.verify.budget import Budget, Cost
from gatewave.graphs.verify.samples import Samples
from gatewave.graphs.verify.thresholds import MAX_CASE_BYTES
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verified_files import write_unchanged

IMAGES = "agraph (float[N, 3, 64, 64] x) => (float[N, 3, 64, 64] y) { y = Neg(x) }"


def drafts(text, takes=lambda _: True):
    """Return all drafts for a model that accepts the shapes for which `takes` is true."""
    model = ir.from_proto(onnx.parser.parse_model(HEAD + text))
    found = []
    accepted = 0
    planned = case_plan.CasePlan(Samples(model, 0), lambda: accepted)
    for draft in planned:
        found.append(draft)
        accepted += takes(draft.shapes)
    return found


def test_images_are_tried_in_small_batches():
    batches = [draft.shapes["x"][0] for draft in drafts(IMAGES)]
    assert batches[:4] == [1, 2, 3, 8]
    assert {*batches[4:-1]} == {1}


def test_all_ranges_have_elements_enough():
    ranges = list(drafts("agraph (float[N] x) => (float[N] y) { y = Neg(x) }"))
    assert {draft.shapes["x"] for draft in ranges if draft.kind.name == "huge"} == {(32,)}


def test_small_sizes_come_before_large_ones():
    text = "agraph (float[N, 3, H, W] x) => (float[N, 3, H, W] y) { y = Neg(x) }"
    wide = list(drafts(text, lambda shapes: shapes["x"][2] >= 32))
    sizes = [draft.elements for draft in wide]
    assert sizes[:3] == sorted(sizes[:3])
    assert {draft.shapes["x"] for draft in wide if draft.kind.name == "huge"} == {(1, 3, 32, 32)}
    taken = [draft.elements for draft in wide if draft.shapes["x"][2] >= 32]
    assert max(taken) <= 8 * min(taken)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_case_that_would_take_longer_than_is_left_is_refused():
    clock = Clock()
    budget = Budget(10.0, clock)
    assert budget.refuses(1000) == ""
    budget.add(1000, Cost(3.0, 0))
    clock.now = 3.0
    assert budget.refuses(2000) == ""
    assert budget.refuses(3000) == "it would take about 9.0 s of the 7.0 s left"
    clock.now = 8.0
    assert "of the 2.0 s left" in budget.refuses(10)


def test_a_case_that_would_take_too_much_memory_is_refused():
    budget = Budget(math.inf, Clock())
    budget.add(1000, Cost(1.0, MAX_CASE_BYTES * 2 / 3))
    assert budget.refuses(1000) == ""
    assert "1.3 GiB of memory" in budget.refuses(2000)


def test_the_report_says_how_many_cases_the_budget_allowed(check):
    report = check(IMAGES, IMAGES, budget=1e-9)
    assert report.holds
    assert report.cases == ["normal, N 1"]
    assert report.planned == 12
    assert "in 1 of 12 cases within the budget of 1e-09 s" in report.summary()
    assert "0 to 255, N 1" in {one.name for one in report.dropped}
    evidence = ("sampled", 1, "drawn with seed 0 from what the model takes")
    assert tuple(report.as_dict()[key] for key in ("level", "inputs", "drawn")) == evidence


CUSTOM = """<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>
agraph (float[N] x) => (float[N] y) { y = com.acme.Secret(x) }"""


def test_what_did_not_change_is_written_without_a_run(saved, tmp_path):
    source, target = saved(CUSTOM), tmp_path / "new.onnx"
    report = write_unchanged(target, source=source)
    assert report.holds
    assert report.words().startswith("no change: ")
    assert report.as_dict()["level"] == "unchanged"
    assert target.exists()


def test_the_installed_runtime_has_to_load_it_all_the_same(saved, tmp_path):
    source, target = saved(CUSTOM), tmp_path / "new.onnx"
    with pytest.raises(NotRunnableError, match=r"com\.acme"):
        write_unchanged(target, source=source, plan=VerificationPlan(native=True))
    assert not target.exists()
