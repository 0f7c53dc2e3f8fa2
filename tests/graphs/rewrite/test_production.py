"""Production graphs that `make test` extracts from packages on PyPI."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from running import generated, run

from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.rewrite.inspection import inspect
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verifier import verify

GRAPHS = Path(__file__).parents[3] / ".graphs"

MODELS = {
    "nudenet/320n.onnx": {"swish": 57, "sigmoid": 1},
    "rapidocr/models/PP-OCRv6_rec_small.onnx": {
        "swish": 5, "gelu": 13, "relu": 10, "hardsigmoid": 5},
    "silero_vad/data/silero_vad_op18_ifless.onnx": {
        "glu": 6, "relu": 10, "sigmoid": 2, "tanh": 4},
    "magika/models/standard_v3_3/model.onnx": {"gelu-tanh": 2, "relu": 2},
}  # fmt: skip
"""Activations in each model."""

TAKEN = {
    "nudenet/320n.onnx": ("batch 2, height 32, width 32", 11),
    "rapidocr/models/PP-OCRv6_rec_small.onnx": ("DynamicDimension.0 2, DynamicDimension.1 32", 11),
    "silero_vad/data/silero_vad_op18_ifless.onnx": ("batch 2, sequence 128", 11),
}
"""For each model, sizes that are found without a hint, and the least number of cases."""

pytestmark = pytest.mark.skipif(not GRAPHS.exists(), reason="make .graphs/.made")


@pytest.fixture(params=MODELS)
def production(request):
    return GRAPHS / request.param, MODELS[request.param]


def test_its_activations_are_found(production):
    path, expected = production
    inspection = inspect(ir.load(path))
    assert Counter(site.kind for site in inspection.sites) == expected


def test_fused_it_gives_the_same(production):
    path, expected = production
    original, new = ir.load(path), ir.load(path)
    fusable = {"swish", "glu"} & {*expected}
    outcome = fuse(new, kinds=fusable)
    assert Counter(c.kind for c in outcome.changes if c.kind != "ir") == {
        kind: expected[kind] for kind in fusable
    }
    assert fuse(new, kinds=fusable).changes == []
    for size in _sizes(path):
        inputs = generated(original, size=size)
        inputs |= {n: x for n, x in _fixed(path).items() if n in inputs}
        for one, other in zip(run(original, inputs), run(new, inputs), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3 * max(1, np.abs(one).max()))


def test_swish_between_convolutions_is_left():
    outcome = fuse(ir.load(GRAPHS / "nudenet/320n.onnx"))
    assert outcome.changes == []
    assert len(outcome.skipped) == 57
    assert all("ONNX Runtime's own fusion is faster" in left.reason for left in outcome.skipped)


def _sizes(path):
    return [320] if "320n" in path.name else [512] if "silero" in path.name else [64]


def _fixed(path):
    """Return inputs for which random numbers are invalid: sampling rate, tokens, three channels."""
    inputs = {
        "sr": np.array(16000, np.int64),
        "bytes": np.random.default_rng(0).integers(0, 256, (1, 2048)).astype(np.int32),
    }
    random = np.random.default_rng(0)
    if "PP-OCR" in path.name:
        inputs["x"] = random.normal(size=(1, 3, 48, 64)).astype(np.float32)
    if "320n" in path.name:
        inputs["images"] = random.random((1, 3, 320, 320)).astype(np.float32)
    return inputs


@pytest.mark.parametrize("name", TAKEN)
def test_production_graphs_equal_themselves_at_other_sizes(name):
    sizes, least = TAKEN[name]
    report = verify(GRAPHS / name, GRAPHS / name, VerificationPlan(timeout=60.0))
    assert report.holds, report.summary()
    assert f"normal, {sizes}" in report.cases
    assert len(report.cases) >= least
    assert all(one.difference.used == 0 for one in report.outputs)
