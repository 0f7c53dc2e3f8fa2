"""Properties of the gated family: choice of the gate, slope, and derivative at the kink."""

import math

import mpmath
import pytest
import torch
from torch.nn import functional

from gatewave.models import ACTIVATIONS
from gatewave.models.torch.glu import GLU, GeGLU, ReGLU
from gatewave.models.torch.sigmoid import Sigmoid
from gatewave.models.torch.swiglu import SwiGLU
from gatewave.models.torch.swish import Swish

A = (0.5, -1.0, 2.0, -2.0)
B = (1.0, -1.0, 0.0, 2.0)


def sigma(x):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(x)))


def tensors(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def test_worked_example_of_the_default_gate():
    wanted = [float(a * sigma(a) * sigma(b)) for a, b in zip(A, B, strict=True)]
    assert SwiGLU()(*tensors(A, B)).tolist() == pytest.approx(wanted, rel=1e-15)


def test_linear_gate_is_silu_times_b():
    a, b = tensors(A, B)
    wanted = functional.silu(a) * b
    torch.testing.assert_close(SwiGLU("linear")(a, b), wanted, rtol=1e-15, atol=0)


def test_the_gates_never_pass_for_each_other():
    default, linear = ACTIVATIONS["swiglu"].operators
    assert default.matches(SwiGLU())
    assert linear.matches(SwiGLU("linear"))
    assert not default.matches(SwiGLU("linear"))
    assert not linear.matches(SwiGLU())
    assert default.op_type != linear.op_type


def test_an_unknown_gate_is_refused():
    with pytest.raises(ValueError, match="gate must be 'sigmoid' or 'linear', not 'tanh'"):
        SwiGLU("tanh")


def test_the_default_gate_refuses_an_alpha_that_it_would_ignore():
    with pytest.raises(ValueError, match="alpha belongs to gate='linear'"):
        SwiGLU(alpha=2.0)


def test_an_unknown_form_of_gelu_is_refused():
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', not 'erf'"):
        GeGLU("erf")


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.702, -1.0, 30.0], ids=str)
@pytest.mark.parametrize("name", ["swish", "swiglu"])
def test_alpha_is_the_slope_of_the_gate(name, alpha):
    operator = ACTIVATIONS[name].operators[-1]
    points = tensors(A, B)[: len(ACTIVATIONS[name].inputs)]
    module = operator.build(alpha=alpha)
    wanted = points[0] * torch.sigmoid(alpha * points[0]) * (points[1] if name == "swiglu" else 1)
    torch.testing.assert_close(module(*points), wanted, rtol=1e-15, atol=0)
    leaves = [point.requires_grad_() for point in points]
    found = torch.autograd.grad(module(*leaves).sum(), leaves)
    explicit = operator.derivative(*(p.detach() for p in points), alpha=alpha)
    torch.testing.assert_close(explicit, found, rtol=1e-13, atol=1e-14)


def test_glu_takes_the_halves_that_torch_takes_packed():
    a, b = tensors(A, B)
    torch.testing.assert_close(GLU()(a, b), functional.glu(torch.cat([a, b])), rtol=1e-15, atol=0)


def test_slope_of_reglu_at_the_kink_is_zero_and_nan_stays_nan():
    (reglu,) = ACTIVATIONS["reglu"].operators
    a = torch.tensor([0.0, -0.0, -1.0, float("nan")])
    slope, _ = reglu.derivative(a, torch.tensor([math.inf, 3.0, math.inf, 2.0]))
    assert slope[:3].tolist() == [0, 0, 0]
    assert slope[3].isnan()
    assert ReGLU()(a[3:], torch.ones(1)).isnan().all()


def test_swish_is_least_where_its_record_says():
    x = torch.linspace(-3, 0, 3_000_001, dtype=torch.float64)
    least, where = Swish()(x).min(dim=0)
    assert f"{least:.3f}" == "-0.278"
    assert f"{x[where]:.3f}" == "-1.278"
    assert Swish(alpha=2.0)(x / 2).min().item() == pytest.approx(least.item() / 2)


def test_the_two_forms_of_gelu_differ_by_what_the_record_says():
    a = torch.linspace(-10, 10, 2_000_001, dtype=torch.float64)
    one = torch.ones_like(a)
    difference = (GeGLU("none")(a, one) - GeGLU("tanh")(a, one)).abs().max().item()
    assert 4e-4 < difference < 5e-4


def test_float32_sigmoid_is_one_beyond_what_its_record_says():
    x = torch.tensor([17.32, 17.34])
    assert (Sigmoid()(x.double()).float() == 1).tolist() == [False, True]
    assert Sigmoid()(torch.tensor([-math.inf, math.inf])).tolist() == [0, 1]


def test_the_derivative_of_sigmoid_keeps_its_digits_on_both_sides():
    (sigmoid,) = ACTIVATIONS["sigmoid"].operators
    (slope,) = sigmoid.derivative(torch.tensor([-30.0, 30.0]))
    wanted = float(sigma(30) * sigma(-30))
    assert slope.tolist() == pytest.approx([wanted, wanted], rel=1e-6)


def test_the_default_gate_never_exceeds_a():
    a, b = torch.randn(2, 10_000, generator=torch.Generator().manual_seed(0)) * 30
    assert (SwiGLU()(a, b).abs() <= a.abs()).all()


def test_slopes_are_right_where_alpha_times_x_overflows():
    (swish,) = ACTIVATIONS["swish"].operators
    x = torch.tensor([1e10, -1e10, 1e-40, 0.0])
    (slope,) = swish.derivative(x, alpha=1e30)
    assert slope.tolist() == [1, 0, 0.5, 0.5]
