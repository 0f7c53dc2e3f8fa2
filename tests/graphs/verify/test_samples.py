"""Samples for the comparison of models: sizes, ranges and special values for each graph."""

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from gatewave.graphs.verify import input_shapes
from gatewave.graphs.verify.ports import inputs_of
from gatewave.graphs.verify.samples import OPPOSED, REPLACED, Samples
from gatewave.graphs.verify.value_ranges import NORMAL, THRESHOLDS, VALUE_RANGES

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
BY_NAME = {kind.name: kind for kind in (NORMAL, THRESHOLDS, *VALUE_RANGES)}


def read(text):
    return ir.from_proto(onnx.parser.parse_model(HEAD + text))


def samples_of(text, seed=0):
    return Samples(read(text), seed)


def shapes_of(text, how=input_shapes.candidates):
    return [shapes for _, shapes in how(inputs_of(read(text)))]


def drawn(text, kind="normal", seed=0, **shapes):
    return samples_of(text, seed).case("", shapes, BY_NAME[kind]).inputs


PAIR = "agraph (float[N, M] x, float[M, K] w) => (float[N, K] y) { y = MatMul(x, w) }"


def test_symbols_have_one_size_in_all_inputs_and_different_ones_each_at_first():
    first, *others = shapes_of(PAIR)
    assert first == {"x": (3, 5), "w": (5, 7)}
    assert {"x": (1, 1), "w": (1, 1)} in others
    assert all(shapes["x"][1] == shapes["w"][0] for shapes in others)
    assert {"x": (0, 2), "w": (2, 2)} in shapes_of(PAIR, input_shapes.empties)


def test_open_axes_without_a_name_are_each_their_own():
    first = shapes_of("agraph (float[?, ?] x, float[?] w) => (float[?] y) { y = Add(x, w) }")[0]
    assert first == {"x": (3, 5), "w": (7,)}


def test_images_get_sides_that_networks_halve_and_halve_again():
    image = "agraph (float[B, 3, H, W] x) => (float[B, 3, H, W] y) { y = Identity(x) }"
    assert {"x": (2, 3, 32, 32)} in shapes_of(image)
    assert {"x": (1, 3, 640, 640)} in shapes_of(image)


def test_sizes_that_are_computed_from_others_are():
    model = read("agraph (float[P] p, float[N] x) => (float[N] y) { y = Identity(x) }")
    model.graph.inputs[1].shape = ir.Shape(["P + 1"])
    assert next(input_shapes.candidates(inputs_of(model)))[1] == {"p": (3,), "x": (4,)}


def test_names_of_sizes_are_never_computed_at_length():
    model = read("agraph (float[P] p) => (float[P] y) { y = Identity(p) }")
    model.graph.inputs[0].shape = ir.Shape(["9**9**9**9"])
    assert next(input_shapes.candidates(inputs_of(model)))[1] == {"p": (3,)}


def test_what_would_not_fit_into_memory_is_not_tried():
    huge = "agraph (float[1099511627776] x) => (float[1099511627776] y) { y = Neg(x) }"
    assert shapes_of(huge) == []


FLOATS = "agraph (float[N] x) => (float[N] y) { y = Neg(x) }"


@pytest.mark.parametrize("dtype", ["float16", "float", "double", "bfloat16"])
def test_special_values_of_each_dtype_are_among_the_inputs(dtype):
    def numbers(kind):
        array = drawn(FLOATS.replace("float", dtype), kind, x=(4000,))["x"]
        return array.astype(np.float64), np.dtype(array.dtype)

    tiny, kind = numbers("zeros and subnormals")
    least = float(np.array(1, f"u{kind.itemsize}").view(kind))
    assert {0.0, least, -least} <= set(tiny.tolist())
    assert np.signbit(tiny[tiny == 0]).any()
    assert np.isfinite(numbers("huge")[0]).all()
    assert np.abs(numbers("huge")[0]).max() > 1e4
    assert {np.inf, -np.inf} <= set(numbers("infinities")[0].tolist())
    assert 0 < np.isnan(numbers("NaN")[0]).mean() < 0.5
    assert np.isfinite(numbers("normal")[0]).all()


def test_a_single_element_is_special_too():
    assert np.isnan(drawn(FLOATS, "NaN", x=(1,))["x"]).all()


def test_the_same_seed_draws_the_same_and_another_another():
    ones, same, other = (drawn(FLOATS, x=(8,), seed=seed)["x"] for seed in (1, 1, 2))
    assert (ones == same).all()
    assert (ones != other).any()


LOOKUP = """agraph (int64[N] ids) => (float[N, 2] y) <float[3, 2] t = {1, 2, 3, 4, 5, 6}> {
    wide = Cast<to = 7>(ids) y = Gather(t, wide) }"""
COMPARED = """agraph (int64 rate) => (bool y) <int64 r = {16000}> { y = Equal(rate, r) }"""
ONE_HOT = """agraph (int32[N] i) => (float[N, 9] y) <int64 d = {9}, float[2] v = {0, 1}> {
    y = OneHot(i, d, v) }"""
MASK = "agraph (int64[N] attention_mask) => (int64[N] y) { y = Neg(attention_mask) }"


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        (LOOKUP, "ids", {0, 1, 2}),
        (COMPARED, "rate", {16000, 16001}),
        (ONE_HOT, "i", set(range(9))),
        (MASK, "attention_mask", {0, 1}),
    ],
    ids=["table", "compared", "one-hot", "mask"],
)
def test_integers_are_what_the_graph_takes(text, name, values):
    for kind in ("normal", "huge", "0 to 255"):
        found = drawn(text, kind, **{name: (300,)})[name]
        assert set(found.tolist()) == values


def test_tables_are_seen_from_within_bodies_and_functions():
    inside = """agraph (int64[N] ids, bool c) => (float[N] y) <float[4] t = {1, 2, 3, 4}> {
        y = If (c) < then_branch = a () => (float[N] u) { u = Gather(t, ids) },
                     else_branch = b () => (float[N] v) { v = Cast<to = 1>(ids) } > }"""
    assert set(drawn(inside, ids=(300,), c=())["ids"].tolist()) == {0, 1, 2, 3}
    function = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        agraph (int64[N] ids) => (float[N] y) { y = f.look(ids) }
        <domain: "f", opset_import: ["" : 17]> look (i) => (y) {
            t = Constant<value_floats = [1.0, 2.0]>() y = Gather(t, i) }"""
    model = ir.from_proto(onnx.parser.parse_model(function))
    model.functions["f", "look", ""][0].outputs[0].shape = ir.Shape([2])
    case = Samples(model, 0).case("", {"ids": (300,)}, NORMAL)
    assert set(case.inputs["ids"].tolist()) == {0, 1}


def test_thresholds_never_make_an_index_or_a_length_wrong():
    text = """agraph (int64[N] i) => (float[N] y) <float[4] t = {1, 2, 3, 4}, int64 c = {90}> {
        m = Min(i, c) y = Gather(t, i) }"""
    for kind in BY_NAME:
        assert set(drawn(text, kind, i=(300,))["i"].tolist()) == {0, 1, 2, 3}


def test_thresholds_and_their_neighbours_are_half_of_a_case_of_their_own():
    text = """agraph (float[N] x) => (bool[N] y) <float c = {5.0}> { y = Greater(x, c) }"""
    assert 5.0 not in drawn(text, x=(400,))["x"]
    found = drawn(text, "thresholds", x=(400,))["x"]
    assert {5.0, np.nextafter(np.float32(5), np.float32(6))} <= {*found}
    assert (np.abs(found - 5) < 1e-3).sum() == 200


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float", "complex64", "int8"])
def test_thresholds_that_the_type_has_not_are_left_out(dtype):
    text = f"""agraph ({dtype}[N] x) => ({dtype}[N] y) <float c = {{1e30}}> {{
        w = Cast<to = 1>(x) v = Min(w, c) y = CastLike(v, x) }}"""
    found = drawn(text, "thresholds", x=(40,))["x"]
    assert np.isfinite(found.astype(complex)).all()


def test_defaults_are_given_only_where_they_are_to_be_replaced():
    samples = samples_of("agraph (float[N] x, float a = {2}) => (float[N] y) { y = Mul(x, a) }")
    assert samples.can_replace()
    assert set(samples.case("", {"x": (2,), "a": ()}, NORMAL).inputs) == {"x"}
    given = samples.case("", {"x": (2,), "a": ()}, NORMAL, given=REPLACED).inputs
    assert 1 <= given["a"] <= 3
    assert given["a"] != 2
    assert samples.has_signs()
    assert -3 <= samples.case("", {"x": (2,), "a": ()}, NORMAL, given=OPPOSED).inputs["a"] <= -1
