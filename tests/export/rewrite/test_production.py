"""Production graphs: sizes and values that they take are found without being told."""

from pathlib import Path

import pytest

from export.rewrite.comparison import Plan
from export.rewrite.verification import verify

GRAPHS = Path(__file__).parents[3] / ".graphs"
"""What `make test` takes out of PyPI's packages."""

TAKEN = {
    "nudenet/320n.onnx": ("batch 2, height 32, width 32", 11),
    "rapidocr/models/PP-OCRv6_rec_small.onnx": ("DynamicDimension.0 2, DynamicDimension.1 32", 11),
    "silero_vad/data/silero_vad_op18_ifless.onnx": ("batch 2, sequence 128", 11),
}


@pytest.mark.skipif(not GRAPHS.exists(), reason="make .graphs/.made")
@pytest.mark.parametrize("name", TAKEN)
def test_production_graphs_equal_themselves_in_sizes_that_they_take(name):
    sizes, least = TAKEN[name]
    report = verify(GRAPHS / name, GRAPHS / name, Plan(timeout=60.0))
    assert report.holds, report.summary()
    assert f"normal, {sizes}" in report.cases
    assert len(report.cases) >= least
    assert all(one.difference.used == 0 for one in report.outputs)
