"""Derivatives by autograd, by torch.func, in explicit form and from the formula: they agree."""

import shutil

import mpmath
import pytest
import sympy
import torch

from gatewave.models import ACTIVATIONS
from gatewave.models.symbols import EXACT

CLOSE = {"rtol": 1e-12, "atol": 1e-13}

# Torch's own forward mode and its compiler still use what Torch deprecates.
TORCH_DEPRECATES_ITSELF = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script(_method)?` is deprecated:DeprecationWarning"
)


def test_explicit_derivative_is_what_autograd_finds(module, operator, points):
    leaves = [tensor.requires_grad_() for tensor in points]
    found = torch.autograd.grad(module(*leaves).sum(), leaves)
    torch.testing.assert_close(operator.derivative(*(p.detach() for p in points)), found, **CLOSE)


def test_explicit_derivative_is_what_high_precision_central_differences_find(
    activation, operator, points
):
    symbols = [sympy.Symbol(name, real=True) for name in activation.inputs]
    reals = {sympy.Symbol(n, real=True): v for n, v in activation.defaults(operator).items()}
    function = sympy.lambdify(
        symbols, activation.expression(operator).subs(reals), [dict(EXACT), "mpmath"]
    )
    explicit = torch.stack(operator.derivative(*points), dim=1).tolist()
    for row, partials in zip(torch.stack(points, dim=1).tolist(), explicit, strict=True):
        for index, partial in enumerate(partials):
            assert partial == pytest.approx(central_difference(function, row, index), abs=1e-14)


def central_difference(function, row, index):
    with mpmath.workdps(60):
        step = mpmath.mpf(10) ** -20

        def at(offset):
            moved = [mpmath.mpf(value) for value in row]
            moved[index] += offset
            return function(*moved)

        return float((at(step) - at(-step)) / (2 * step))


def test_gradcheck_holds_to_the_second_order(module, points):
    leaves = tuple(tensor[:6].requires_grad_() for tensor in points)
    assert torch.autograd.gradcheck(module, leaves)
    assert torch.autograd.gradgradcheck(module, leaves)


def test_vmap_gives_what_the_whole_batch_gives(module, points):
    torch.testing.assert_close(torch.func.vmap(module)(*points), module(*points), **CLOSE)


def test_functional_gradient_is_the_explicit_derivative(module, operator, points):
    every = tuple(range(len(points)))
    found = torch.func.vmap(torch.func.grad(module, argnums=every))(*points)
    torch.testing.assert_close(found, operator.derivative(*points), **CLOSE)


@TORCH_DEPRECATES_ITSELF
@pytest.mark.parametrize("jacobian", [torch.func.jacrev, torch.func.jacfwd])
def test_jacobians_are_diagonal_with_the_explicit_derivative(module, operator, points, jacobian):
    every = tuple(range(len(points)))
    found = jacobian(module, argnums=every)(*points)
    for matrix, partial in zip(found, operator.derivative(*points), strict=True):
        torch.testing.assert_close(matrix, torch.diag(partial), **CLOSE)


@TORCH_DEPRECATES_ITSELF
def test_hessian_is_the_jacobian_of_the_explicit_derivative(module, operator, points):
    point = [tensor[0] for tensor in points]
    every = tuple(range(len(points)))
    found = torch.func.hessian(module, argnums=every)(*point)
    wanted = torch.func.jacfwd(operator.derivative, argnums=every)(*point)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


def test_compiled_module_gives_the_same_values_and_gradients(module, points):
    torch.compiler.reset()
    leaves = [tensor.requires_grad_() for tensor in points]
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(*leaves)
    plain = module(*leaves)
    torch.testing.assert_close(compiled, plain, **CLOSE)
    torch.testing.assert_close(
        torch.autograd.grad(compiled.sum(), leaves), torch.autograd.grad(plain.sum(), leaves)
    )


@TORCH_DEPRECATES_ITSELF
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_compiles_sinc_whole():
    torch.compiler.reset()
    sinc = ACTIVATIONS["sinc"].operators[0].build()
    x = torch.tensor([-3.0, -0.5, 0.0, 0.3, 7.25, 1e4])
    torch.testing.assert_close(torch.compile(sinc, fullgraph=True)(x), sinc(x))
