"""Coefficients of the elementary functions: the numbers that mpmath computes."""

import mpmath
import pytest

from gatewave.models.elementary import ATAN, ATAN_SPLIT, ERF, ERF_SPLIT, PI


@pytest.fixture(params=[24, 53])
def bits(request):
    return request.param


def test_atan_polynomial_interpolates_its_remainder(bits):
    def remainder(z):
        root = mpmath.sqrt(z)
        return (mpmath.atan(root) / root - 1) / z

    assert ATAN[bits] == fitted(remainder, ATAN_SPLIT**2, len(ATAN[bits]))


def test_erf_polynomial_interpolates_its_ratio(bits):
    def ratio(z):
        root = mpmath.sqrt(z)
        return mpmath.erf(root) / root

    assert ERF[bits] == fitted(ratio, ERF_SPLIT**2, len(ERF[bits]))


def test_pi_is_split_at_the_precision(bits):
    with mpmath.workprec(bits):
        high = +mpmath.pi
    with mpmath.workprec(3 * bits):
        assert PI[bits] == (float(high), float(mpmath.pi - high))


def fitted(function, end, count):
    """Return the Chebyshev interpolation polynomial between 0 and ``end``, in 40 digits."""
    with mpmath.workdps(40):
        points = [mpmath.mpf(10) ** -30, end]
        return tuple(float(c) for c in mpmath.chebyfit(function, points, count))
