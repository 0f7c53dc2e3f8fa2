"""Exact results: computed by mpmath with as many digits as necessary."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch

from gatewave.export.accuracy import reference
from gatewave.models import ACTIVATIONS


def of(name):
    return ACTIVATIONS[name], ACTIVATIONS[name].operators[0]


def test_sine_of_the_greatest_float_has_its_digits():
    value, slope = reference.definition(*of("sinc"))(1.7e308)
    assert abs(value) < 1e-300
    assert float(slope) == pytest.approx(1 / 1.7e308, rel=1e-15)


def test_high_and_low_together_have_more_digits_than_a_float():
    x = torch.tensor([0.3], dtype=torch.float64)
    (exact,) = reference.exact(*of("sinc"), "value", [x])
    with mpmath.workdps(40):
        want = mpmath.sincpi(mpmath.mpf(0.3))
        assert abs(mpmath.mpf(exact.high.item()) + mpmath.mpf(exact.low.item()) - want) < 1e-31


def test_subnormal_results_are_rounded_once():
    # Just past the middle of two subnormals; 53 bits of it are the middle, which goes to the other.
    numerator, exponent = (1025 << 60) + 1, 60 + 1075
    with mpmath.workdps(40):
        value = mpmath.mpf(numerator) * mpmath.mpf(2) ** -exponent
    assert reference._nearest(value) == float(Fraction(numerator, 1 << exponent))  # noqa: SLF001
    assert reference._nearest(value) == 513 * 2.0**-1074  # noqa: SLF001


@pytest.mark.parametrize("tiny", ["1e-400", "-1e-400", "1e400", "-1e400"])
def test_what_no_float_can_hold_is_zero_or_infinite(tiny):
    found = reference._nearest(mpmath.mpf(tiny))  # noqa: SLF001
    assert found == float(tiny)
    assert math.copysign(1, found) == math.copysign(1, float(tiny)) or found == 0


def test_the_vector_jacobian_product_is_the_partial_times_the_gradient():
    tensors = [torch.tensor([0.7]).double(), torch.tensor([-3.0]).double()]
    (product,) = reference.exact(*of("sinc"), "vjp", tensors)
    _, slope = reference.exact(*of("sinc"), "grad", tensors[:1])
    assert product.high.item() == pytest.approx(-3 * slope.high.item(), rel=1e-15)


def test_samples_are_the_same_every_time(activation, graph, dtype):
    first = reference.samples(activation, graph, dtype)
    again = reference.samples(activation, graph, dtype)
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
