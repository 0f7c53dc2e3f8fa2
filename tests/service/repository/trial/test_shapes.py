"""Candidate shapes for inputs with open sizes."""

import asyncio

import onnx.parser
import pytest
from onnx_models import filled, put, trial_job

from gatewave.service.errors import ModelRefused
from gatewave.service.oip.metadata import model_config
from gatewave.service.repository.config import parse
from gatewave.service.repository.trial.process import run_trial
from gatewave.service.repository.trial.shapes import MAX_ELEMENTS, candidates
from gatewave.service.repository.trial.warmup import warm_up

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
KERNEL = (
    HEAD
    + """(float[b, 1, samples] x) => (float[b, 1, m] y)
<float[1, 1, 9] w = {1, 1, 1, 1, 1, 1, 1, 1, 1}> { y = Conv(x, w) }"""
)
FOURS = HEAD + """(float[b, n] x) => (float[k, 4] y) <int64[2] s = {-1, 4}> { y = Reshape(x, s) }"""
ROWS = HEAD + """(float[n, 3] x) => (float[k, 9] y) <int64[2] s = {-1, 9}> { y = Reshape(x, s) }"""
SIDES = (
    HEAD
    + """(float[b, 1, ?, ?] x) => (float[b, 64, ?, ?] y) {
    y = SpaceToDepth <blocksize = 8> (x)
}"""
)
PAIR = (
    HEAD
    + """(float[b, t] x, float[b, t] mask) => (float[k, 8] y) <int64[2] s = {-1, 8}> {
    m = Mul(x, mask)
    y = Reshape(m, s)
}"""
)
STATE = (
    HEAD
    + """(float[b, t] x, float[2, b, 3] h) => (float[k, 8] y, float[2, b, 3] z)
<int64[2] s = {-1, 8}> {
    y = Reshape(x, s)
    z = Neg(h)
}"""
)
ALONE = (
    HEAD
    + """(float[a] x, float[b] w) => (float y) <int64[1] twice = {2}> {
    v = Tile(x, twice)
    y = MatMul(v, w)
}"""
)
NEVER = (
    HEAD
    + """(float[b, n] x) => (float[k, 7919] y) <int64[2] s = {-1, 7919}> {
    y = Reshape(x, s)
}"""
)


CONCAT = (
    HEAD
    + """(float[n, k, 3] a, float[m, k, 3] b) => (float[p, k, 3] y) {
    y = Concat <axis = 0> (a, b)
}"""
)


@pytest.fixture
def parse_and_open(open_model):
    return lambda text: open_model(onnx.parser.parse_model(text))


def test_open_sizes_are_one_by_default(parse_and_open):
    model = parse_and_open(CONCAT)
    assert next(candidates(model, {})) == {"a": (1, 1, 3), "b": (1, 1, 3)}
    given = next(candidates(model, {"a": (2, 5, 3)}))
    assert given == {"a": (2, 5, 3), "b": (1, 5, 3)}


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        (KERNEL, {"x": (1, 1, 16)}),
        (FOURS, {"x": (1, 4)}),
        (ROWS, {"x": (3, 3)}),
        (SIDES, {"x": (1, 1, 8, 8)}),
        (PAIR, {"x": (1, 8), "mask": (1, 8)}),
        (STATE, {"x": (1, 8), "h": (2, 1, 3)}),
        (ALONE, {"x": (1,), "w": (2,)}),
    ],
)
def test_sizes_are_raised_until_the_model_runs(parse_and_open, text, shapes):
    assert warm_up(parse_and_open(text), parse("")) == shapes


def test_known_sizes_are_kept(parse_and_open):
    model = parse_and_open(PAIR)
    given = parse("warmup: {x: [2, 12]}")
    assert warm_up(model, given) == {"x": (2, 12), "mask": (2, 12)}
    assert warm_up(model, parse(""), {"x": (1, 16), "mask": (1, 16)})["x"] == (1, 16)
    with pytest.raises(ModelRefused, match=r"tried with x \[1, 5\], mask \[1, 5\]: set"):
        warm_up(model, parse("warmup: {x: [1, 5]}"))


def test_a_refusal_names_the_tried_sizes(parse_and_open):
    with pytest.raises(
        ModelRefused, match=r"tried with x \[1, 1\] and \d+ others, up to x \["
    ) as e:
        warm_up(parse_and_open(NEVER), parse(""))
    assert "requested shape" in str(e.value)
    with pytest.raises(ModelRefused, match=r"tried with x \[1, 1\]: set"):
        warm_up(parse_and_open(NEVER), parse(""), seconds=0)


def test_candidates_are_few_small_and_different(parse_and_open):
    for text in (KERNEL, SIDES, PAIR, ALONE):
        found = [tuple(shapes.values()) for shapes in candidates(parse_and_open(text), {})]
        assert len(set(found)) == len(found) < 300
        for shapes in found:
            assert all(shape and max(shape) <= MAX_ELEMENTS for shape in shapes)


def test_found_sizes_are_used_and_shown(root, served):
    put(root, "kernel", "1", onnx.parser.parse_model(KERNEL))
    put(root, "slow", "1", onnx.parser.parse_model(KERNEL), "isolation: process")
    put(root, "fours", "1", onnx.parser.parse_model(FOURS), "warmup: {x: [2, 4]}")

    async def scenario(s):
        for name in ("kernel", "slow"):
            model = s.runtime.registry.get(name, "")
            assert model.warmup == "x [1, 1, 16]"
            shown = model_config(model)["parameters"]["warmup"]
            assert shown == {"string_value": "x [1, 1, 16]"}
        assert s.runtime.registry.get("fours", "").warmup == ""

    served(scenario)


def test_a_sufficient_arena_is_found(root):
    put(root, "m", "1", filled(1 << 23))  # 32 MiB
    with pytest.raises(ModelRefused, match="GATEWAVE_ARENA_BYTES=") as caught:
        asyncio.run(run_trial(trial_job(root, arena_bytes=1 << 24)))
    said = str(caught.value)
    assert said.endswith(" it runs")
    enough = int(said.rpartition("=")[2].removesuffix(" it runs"))
    assert not asyncio.run(run_trial(trial_job(root, arena_bytes=enough))).refused
    assert enough <= 48 << 20


def test_an_impossible_arena_is_reported(root):
    put(root, "m", "1", filled(1 << 44))
    needed = r"it needs GATEWAVE_ARENA_BYTES=7036874\d+ or more, and has 16777216$"
    with pytest.raises(ModelRefused, match=needed):
        asyncio.run(run_trial(trial_job(root, arena_bytes=1 << 24)))
