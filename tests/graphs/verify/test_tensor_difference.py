"""Allowed differences: by element, by tensor, and by slice."""

import numpy as np
import pytest

from gatewave.graphs.ops.ulp import unit_in_the_last_place
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.tensor_difference import between

SOURCE = np.random.default_rng(0)


def allowed(want, **bounds):
    high = want.astype(np.float64)
    units = unit_in_the_last_place(high, want.dtype.name)
    found = Allowance(rtol=0.0, **bounds).allowed(high, units, want.dtype.name)
    return np.broadcast_to(found, want.shape)


def rms(array):
    return np.sqrt(np.mean(np.square(array.astype(np.float64))))


SHAPES = [(), (1,), (40,), (4, 5), (1, 5, 40), (40, 5), (2, 3, 4, 20), (1, 1, 1), (0, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_slice_is_never_allowed_more_than_the_whole_tensor(shape, dtype):
    want = SOURCE.standard_normal(shape).astype(dtype)
    if want.size:
        assert (allowed(want, atol=0.01) <= 0.01 * rms(want) * (1 + 1e-12)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_slice_along_the_axis_that_varies_most_has_its_own_scale(axis):
    scales = np.moveaxis(np.array([1000.0, 1.0, 50.0]).reshape(3, 1, 1), 0, axis)
    want = (SOURCE.standard_normal((3, 3, 3)) * 0.1 + 1) * scales
    found = allowed(want, atol=0.01)
    small = np.take(found, 1, axis)
    assert small.max() == pytest.approx(0.01 * rms(np.take(want, 1, axis)))
    assert np.take(found, 0, axis).max() == pytest.approx(0.01 * rms(want))


def test_channels_within_a_network_have_the_scale_of_the_whole():
    want = np.stack([np.full(16, 1000.0), np.ones(16)])
    np.testing.assert_allclose(allowed(want, atol=0.01, sliced=False), 0.01 * rms(want))


def test_a_few_elements_are_no_slice():
    want = np.array([[1000.0, 1.0], [1000.0, 0.0]])
    np.testing.assert_allclose(allowed(want, atol=0.01), 0.01 * rms(want))


def test_what_should_cancel_may_leave_roundings_of_the_whole():
    want = np.stack([np.zeros(16), np.ones(16)]).astype(np.float32)
    rounding = (want == 0) * np.float32(2e-7)
    assert between(want, want + rounding, Allowance(), lenient=False).used <= 1
    assert between(want, want + 10 * rounding, Allowance(), lenient=False).used > 1
    zeros = np.zeros((4, 16), np.float32)
    assert between(zeros, zeros, Allowance(), lenient=False).used == 0
    assert between(zeros, zeros + np.float32(1e-9), Allowance(), lenient=False).used > 1


def test_numbers_whose_squares_are_out_of_range_have_scales_too():
    want = np.stack([np.full(16, 1e300), np.full(16, 1e-300)])
    found = allowed(want, atol=0.01)
    assert np.isfinite(found).all()
    assert found[1].max() < 1e286
