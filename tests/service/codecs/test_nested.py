"""JSON codec: the round trip of any tensor."""

import ml_dtypes
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from gatewave.service.codecs import nested
from gatewave.service.errors import RequestInvalid

NUMPY = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


def text_of(array):
    return orjson.dumps({"t": orjson.Fragment(nested.encode(array))})


@pytest.mark.parametrize("dtype", NUMPY)
@given(data=st.data())
def test_every_tensor_survives_the_round_trip_bit_for_bit(dtype, data):
    shapes = numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
    array = data.draw(numpy_strategies.arrays(NUMPY[dtype], shapes))
    back = nested.decode(orjson.loads(text_of(array))["t"], dtype, "t", 16)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.ravel(), array.ravel())


def test_every_bfloat16_survives_the_round_trip():
    array = np.arange(65536, dtype=np.uint16).view(ml_dtypes.bfloat16)
    back = nested.decode(orjson.loads(text_of(array))["t"], "bfloat16", "t", 16)
    numbers = ~np.isnan(array.astype(np.float32))
    assert np.array_equal(back.view(np.uint16)[numbers], array.view(np.uint16)[numbers])
    assert np.isnan(back[~numbers].astype(np.float32)).all()


@given(
    st.recursive(
        st.one_of(st.floats(allow_nan=False), st.text(max_size=3), st.none(), st.booleans()),
        lambda children: st.lists(children, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_a_tensor_or_named_as_none(value):
    try:
        array = nested.decode(value, "float64", "t", 4)
    except RequestInvalid as error:
        fields = [wrong.field for wrong in error.errors]
    else:
        fields = ["t"]
        assert array.shape == np.shape(value)
    assert fields[0].startswith("t")


@pytest.mark.parametrize(
    ("value", "field"),
    [([[1, 2], [3, "x"]], "t[1][1]"), ([[[1]], [[2, 3]]], "t[1][0]"), ("x", "t")],
)
def test_the_element_that_is_wrong_is_named(value, field):
    with pytest.raises(RequestInvalid) as caught:
        nested.decode(value, "float32", "t", 16)
    assert caught.value.errors[0].field == field


def test_integers_beyond_int64_are_numbers():
    assert nested.decode([2**64 - 1], "float64", "t", 1).tolist() == [2.0**64]
