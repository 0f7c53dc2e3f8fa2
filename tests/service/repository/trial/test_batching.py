"""Decision for or against batching of a model's requests."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import (
    averaged,
    conditional,
    helper,
    load,
    model,
    numpy_helper,
    port,
    put,
    reshaped,
    unary,
)

from gatewave.service.codecs.datatypes import DATATYPES
from gatewave.service.repository.config import parse
from gatewave.service.repository.rowwise.analysis import unshown
from gatewave.service.repository.trial import batching
from gatewave.service.serving.model import Batching

ON = parse("batching: {max_size: 4}")
AUTO = parse("batching: auto")


def flattened():
    """Two numbers of ``y`` for each row of ``x``."""
    shape = numpy_helper.from_array(np.array([-1], np.int64), "shape")
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return model([node], [port("x")], [port("y", ("m",))], [shape])


SHOWN = "batched: the graph shows that rows are independent"


@pytest.fixture
def decided(root, engine):
    """Return a function that decides on a graph: first by the graph, then by runs."""

    def decide(made, config=ON):
        path = put(root, "m", "1", made)
        model = load(path, engine)
        return batching.decide(model, config, unshown(path.read_bytes()))

    return decide


@pytest.fixture
def refusal(decided):
    def refuse(made, config=ON):
        batching, note = decided(made, config)
        assert batching is None
        return note

    return refuse


def test_independent_rows_are_batched(decided):
    assert decided(unary("Sin")) == (Batching(4), SHOWN)


def test_batching_off_is_given_as_the_reason(refusal):
    off = refusal(unary("Neg"), parse("batching: off"))
    assert off == "not batched: config.yaml has batching: off"


def test_default_batching_gives_its_reason(decided, refusal):
    assert decided(unary("Neg"), parse("")) == (Batching(32), SHOWN)
    assert "the first size of x is not open" in refusal(unary("Neg", (3, 2)), parse(""))


def test_ambiguous_rows_are_batched_on_request_only(decided, refusal):
    node = helper.make_node("Add", ["a", "b"], ["y"])

    def made(rows):
        return model([node], [port("a", (rows, 2)), port("b", (rows, 2))], [port("y")])

    assert decided(made("n"), AUTO) == (Batching(32), SHOWN)
    assert "does not declare that its inputs have equally many rows" in refusal(made(None), AUTO)
    assert decided(made(None), ON) == (Batching(4), SHOWN)
    off = parse("batching: auto\nwarmup: off")
    assert "warmup: off" in refusal(made("n"), off)


def test_rows_dependent_for_some_data_are_not_batched(refusal):
    assert refusal(conditional(), AUTO) == ("not batched: node most (ReduceMax) joins the rows")
    assert refusal(averaged(), AUTO) == "not batched: node mean (ReduceMean) joins the rows"


@pytest.mark.parametrize("make", [conditional, averaged])
def test_mixed_rows_reveal_dependent_rows(refusal, make):
    """config.yaml requests batching; the runs alone decide."""
    assert "together differs from that of each alone" in refusal(make())


def test_configured_batching_names_the_doubt(decided):
    nodes = [helper.make_node("Unique", ["x"], ["all"]), helper.make_node("Neg", ["x"], ["y"])]
    nodes.append(helper.make_node("Shape", ["all"], ["count"]))
    nodes.append(helper.make_node("Cast", ["count"], ["real"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Max", ["real", "one"], ["more"]))
    nodes.append(helper.make_node("Div", ["more", "more"], ["same"]))
    nodes.append(helper.make_node("Mul", ["y", "same"], ["z"]))
    one = numpy_helper.from_array(np.float32([1]), "one")
    made = model(nodes, [port("x")], [port("z")], [one])
    batching, note = decided(made, ON)
    assert batching == Batching(4)
    assert note.startswith("batched: config.yaml requests it; not shown: node all (Unique)")


def embedding(vocabulary):
    """Embedding with a vector for each of three tokens."""
    table = np.random.default_rng(1).normal(size=(vocabulary, 8)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    tokens = port("x", ("n", 3), TensorProto.INT64)
    return model(
        [node], [tokens], [port("y", ("n", 3, 8))], [numpy_helper.from_array(table, "table")]
    )


@pytest.mark.parametrize("vocabulary", [2, 10, 1000])
def test_models_that_refuse_large_tokens_are_batched(decided, vocabulary):
    assert decided(embedding(vocabulary), ON) == (Batching(4), SHOWN)


def test_dependent_rows_are_not_batched(refusal):
    node = helper.make_node("Softmax", ["x"], ["y"], axis=0)
    made = model([node], [port("x")], [port("y")])
    assert refusal(made) == ("not batched: y of 2 rows together differs from that of each alone")
    assert refusal(made, AUTO) == "not batched: node y (Softmax) normalises over the rows"


def test_a_difference_of_two_ulp_prevents_batching(refusal):
    """The graph adds ``ulps`` ULP of 1 for each row."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["rows", "ulps"], ["little"]),
        helper.make_node("Mul", ["x", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "one"], ["ones"]),
        helper.make_node("Add", ["ones", "little"], ["y"]),
    ]

    def made(ulps):
        values = {"ulps": 2.0**-23 * ulps, "zero": 0.0, "one": 1.0}
        constants = [numpy_helper.from_array(np.float32([v]), n) for n, v in values.items()]
        return model(nodes, [port("x")], [port("y")], constants)

    two = parse("batching: {max_size: 2}")
    assert "differs" in refusal(made(2), two)
    # Of 2 and 3 rows the latter would be 2 ULP off.
    assert "3 rows together differs" in refusal(made(1), two)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (unary("Neg", (3, 2)), "the first size of x is not open"),
        (unary("Neg", []), "the first size of x is not open"),
        (unary("Neg", None), "the first size of x is not open"),
        (
            model(
                [helper.make_node("Add", ["a", "b"], ["y"])],
                [port("a"), port("b", ("m", 2))],
                [port("y", None)],
            ),
            "not open|different numbers of rows",
        ),
        (
            model(
                [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
                [port("x")],
                [port("y", [])],
            ),
            "the first size of y is not open",
        ),
        (flattened(), "y does not have one row for each row"),
    ],
    ids=["fixed", "scalar", "unknown", "two-sizes", "reduced", "other-rows"],
)
def test_models_without_rows_are_not_batched(refusal, made, why):
    note = refusal(made)
    assert any(part in note for part in why.split("|")), note


def test_models_that_fail_on_many_rows_are_not_batched(refusal):
    assert "not batched" in refusal(
        reshaped(), parse("batching: {max_size: 4}\nwarmup: {x: [1, 6]}")
    )


def test_automatic_batching_must_save_time(decided, refusal):
    """A run costs much more than one small Neg, and much less than a large Sin."""
    assert decided(unary("Neg"), AUTO) == (Batching(32), SHOWN)
    note = refusal(unary("Sin", ("n", 1 << 16)), AUTO)
    assert note.startswith("not batched: batching saves too little: 8 rows take ")


def test_runs_are_timed(open_model):
    made = open_model(unary("Neg"))
    assert 0 < batching.seconds_of(made, {"x": np.ones((1, 2), np.float32)}) < 10


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bfloat16"])
def test_floats_equal_their_neighbours_only(kind):
    kind = DATATYPES[
        {"float16": "FP16", "float32": "FP32", "float64": "FP64", "bfloat16": "BF16"}[kind]
    ].numpy
    values = np.array([0.0, 1.0, -1.0, 3e-5, np.nan, np.inf, -np.inf], kind)
    above = np.nextafter(values, np.array(np.inf, kind))
    assert batching.equal_within_one_ulp(values, values)
    assert batching.equal_within_one_ulp(values, above)
    assert not batching.equal_within_one_ulp(values[:4], np.nextafter(above, kind.type(np.inf))[:4])
    assert not batching.equal_within_one_ulp(values[:1], values[4:5])
    assert not batching.equal_within_one_ulp(values, values[:3])


def test_integers_and_strings_are_compared_exactly():
    for kind in (np.int64, np.bool_, np.object_):
        assert batching.equal_within_one_ulp(np.array([0, 1], kind), np.array([0, 1], kind))
        assert not batching.equal_within_one_ulp(np.array([0, 1], kind), np.array([0, 0], kind))


@pytest.mark.parametrize("count", [1, 2, 3, 32, 33, 1 << 16])
def test_compared_rows_include_the_first_and_last(count):
    rows = batching.sampled(count)
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, count - 1)
    assert len(rows) == min(count, 32)


def test_a_sample_of_many_rows_decides(decided, refusal):
    """The graph adds to each row the number of rows beyond three."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["rows", "three"], ["over"]),
        helper.make_node("Relu", ["over"], ["more"]),
        helper.make_node("Add", ["x", "more"], ["y"]),
    ]
    three = numpy_helper.from_array(np.float32([3.0]), "three")
    many = parse("batching: {max_size: 65536}")
    assert decided(unary("Neg"), many) == (Batching(1 << 16), SHOWN)
    made = model(nodes, [port("x")], [port("y")], [three])
    assert "y of 65536 rows together differs" in refusal(made, many)


def test_slow_models_are_not_batched_automatically(refusal, monkeypatch):
    monkeypatch.setattr(batching, "MAX_CHECK_SECONDS", 0.0)
    assert "seconds, and the check needs 32 runs" in refusal(unary("Neg"), AUTO)
