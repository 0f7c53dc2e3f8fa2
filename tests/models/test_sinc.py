"""Properties of sinc: integers, zero, infinity, and a derivative that is often miscopied."""

import math

import mpmath
import pytest
import torch

from gatewave.models import ACTIVATIONS
from gatewave.models.torch.sinc import Sinc

(SINC,) = ACTIVATIONS["sinc"].operators
INFINITY = float("inf")


@pytest.fixture
def kind(dtype):
    return getattr(torch, dtype)


def test_every_non_zero_integer_up_to_2_to_the_24_gives_exactly_zero():
    integers = torch.arange(1, 2**24 + 1, dtype=torch.float32)
    with torch.no_grad():
        assert torch.count_nonzero(Sinc()(integers)) == 0
        assert torch.count_nonzero(Sinc()(integers.neg_())) == 0


def test_a_billion_and_more_give_exactly_zero_in_float64():
    integers = torch.tensor([2.0**30 + 1, 2.0**52 - 1, 2.0**53, 1e300], dtype=torch.float64)
    assert torch.count_nonzero(Sinc()(integers)) == 0


def test_special_values(kind):
    x = torch.tensor([0.0, -0.0, INFINITY, -INFINITY, float("nan")], dtype=kind)
    y = Sinc()(x)
    (slope,) = SINC.derivative(x)
    assert y[:4].tolist() == [1, 1, 0, 0]
    assert slope[:4].tolist() == [0, 0, 0, 0]
    assert y[4].isnan()
    assert slope[4].isnan()


def test_autograd_is_finite_at_zero_and_at_infinity(kind):
    x = torch.tensor([0.0, -0.0, INFINITY, -INFINITY], dtype=kind, requires_grad=True)
    (slope,) = torch.autograd.grad(Sinc()(x).sum(), x)
    assert slope.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("x", [1e-5, 1e-3, 3e-2, 0.2], ids=str)
def test_float32_autograd_near_zero_is_right_where_that_of_the_quotient_is_not(x):
    leaf = torch.tensor(x, requires_grad=True)
    with mpmath.workdps(40):
        exact = float(mpmath.diff(mpmath.sincpi, mpmath.mpf(leaf.item())))
    (ours,) = torch.autograd.grad(Sinc()(leaf), leaf)
    (naive,) = torch.autograd.grad(torch.sin(math.pi * leaf) / (math.pi * leaf), leaf)
    assert ours.item() == pytest.approx(exact, rel=4 * torch.finfo(torch.float32).eps)
    assert naive.item() != pytest.approx(exact, rel=4 * torch.finfo(torch.float32).eps)


@pytest.mark.filterwarnings(  # by Torch's own forward mode
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)
def test_second_derivative_at_zero_is_minus_pi_squared_over_three():
    second = torch.func.hessian(Sinc())(torch.tensor(0.0, dtype=torch.float64))
    assert second.item() == pytest.approx(-(math.pi**2) / 3, rel=1e-15)


def test_the_widely_copied_derivative_is_too_small_by_a_factor_of_pi():
    x = torch.linspace(0.3, 9.7, 48, dtype=torch.float64)
    pi_x = math.pi * x
    copied = (pi_x * torch.cos(pi_x) - torch.sin(pi_x)) / pi_x**2
    (ours,) = SINC.derivative(x)
    torch.testing.assert_close(ours, math.pi * copied, rtol=1e-12, atol=1e-14)
    with mpmath.workdps(40):
        exact = float(mpmath.diff(mpmath.sincpi, mpmath.mpf("0.5")))
    (at_half,) = SINC.derivative(torch.tensor(0.5, dtype=torch.float64))
    assert at_half.item() == pytest.approx(exact, rel=1e-15)
    assert exact == pytest.approx(-4 / math.pi, rel=1e-15)


def test_a_hundred_points_of_its_plot_are_what_mpmath_gives():
    x = torch.linspace(-10, 10, 100, dtype=torch.float64)
    with mpmath.workdps(40):
        exact = [float(mpmath.sincpi(mpmath.mpf(value))) for value in x.tolist()]
    assert Sinc()(x).tolist() == pytest.approx(exact, abs=1e-16, rel=1e-15)


def test_it_is_even_and_its_derivative_is_odd(dtype):
    x = torch.linspace(0, 40, 999).to(getattr(torch, dtype))
    assert torch.equal(Sinc()(x), Sinc()(-x))
    assert torch.equal(SINC.derivative(x)[0], -SINC.derivative(-x)[0])


def test_torch_itself_answers_what_its_record_says():
    assert 0 < abs(torch.sinc(torch.tensor(1.0)).item()) < 1e-7
    assert torch.sinc(torch.tensor(INFINITY)).isnan()


@pytest.mark.parametrize("function", [Sinc(), lambda x: SINC.derivative(x)[0]])
def test_the_series_and_the_closed_form_meet(function, kind):
    at = torch.tensor(0.5, dtype=kind)
    below = at - torch.finfo(kind).eps / 4
    assert below < at
    assert function(below).item() == pytest.approx(
        function(at).item(), rel=4 * torch.finfo(kind).eps
    )
