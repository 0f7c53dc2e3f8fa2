"""Coefficients of the normal distribution: the numbers that mpmath computes."""

import itertools

import mpmath

from gatewave.models.normal import ERFCX


def test_coefficients_interpolate_erfcx_at_chebyshev_points():
    count = len(ERFCX)
    with mpmath.workdps(40):
        angles = [mpmath.pi * (k + mpmath.mpf(1) / 2) / count for k in range(count)]
        values = [erfcx(mpmath.cos(angle)) for angle in angles]
        sums = [
            mpmath.fsum(v * mpmath.cos(n * angle) for v, angle in zip(values, angles, strict=True))
            for n in range(count)
        ]
        factors = itertools.chain([1], itertools.repeat(2))
        wanted = tuple(float(f * total / count) for f, total in zip(factors, sums, strict=False))
    assert wanted == ERFCX


def erfcx(t):
    x = 2 * (1 - t) / (1 + t)
    return mpmath.exp(x * x) * mpmath.erfc(x)
