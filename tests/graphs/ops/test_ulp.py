"""Unit in the last place of every float type, subnormals and the largest binade included."""

import ml_dtypes
import numpy as np
import pytest

from gatewave.graphs.ops.ulp import unit_in_the_last_place

NUMBERS = np.array([1.0, 1.5, 2.0, 0.0, 1e-45])


@pytest.mark.parametrize(
    ("dtype", "exponents"),
    [("float32", [-23, -23, -22, -149, -149]), ("float16", [-10, -10, -9, -24, -24])],
)
def test_ulp_is_that_of_the_output_dtype(dtype, exponents):
    assert unit_in_the_last_place(NUMBERS, dtype).tolist() == [2.0**e for e in exponents]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e5m2"])
def test_ulp_is_the_distance_to_the_next_number(dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    bits = np.arange(2 ** (8 * kind.itemsize - 1), dtype=f"u{kind.itemsize}")
    with np.errstate(invalid="ignore"):  # signalling NaNs
        positive = bits.view(kind).astype(np.float64)
    finite = positive[np.isfinite(positive)]
    assert (unit_in_the_last_place(finite[:-1], dtype) == np.diff(finite)).all()


def test_numbers_beyond_the_type_have_its_largest_distance():
    largest = unit_in_the_last_place(np.array([6e4]), "float16")
    assert (unit_in_the_last_place(np.array([1e9, -np.inf]), "float16") == largest).all()
