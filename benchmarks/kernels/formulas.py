"""Plain Torch and NumPy versions of the activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gatewave.models import Operator

Into = Callable[..., object]
"""Function of ``(outputs, *inputs)`` that writes its results to the arrays ``outputs``."""


@dataclass(frozen=True, slots=True)
class Formula:
    """Function with its partial derivatives, in Torch and in NumPy."""

    value: Callable[..., Tensor]
    partials: Callable[..., tuple[Tensor, ...]]
    numpy_value: Into | None = None
    numpy_gradients: Into | None = None


def formula_of(stem: str, operator: Operator) -> Formula:
    """Return the plain formula of an operator; by default, the record's Torch module."""
    return FORMULAS.get(stem) or Formula(operator.build(), operator.derivative)


def _sinc_partials(x: Tensor) -> tuple[Tensor]:
    return (torch.where(x == 0, 0.0, (torch.cos(torch.pi * x) - torch.sinc(x)) / x),)


def _swish_partials(x: Tensor) -> tuple[Tensor]:
    gate = torch.sigmoid(x)
    return (gate * (1 + x * (1 - gate)),)


def _sigmoid_gate_partials(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (slope,) = _swish_partials(a)
    gate = torch.sigmoid(b)
    return slope * gate, functional.silu(a) * gate * (1 - gate)


def _linear_gate_partials(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    (slope,) = _swish_partials(a)
    return slope * b, functional.silu(a)


def _numpy_sigmoid(x: np.ndarray) -> np.ndarray:
    gate: np.ndarray = 1 / (1 + np.exp(-x))
    return gate


def _numpy_sinc(outputs: list[np.ndarray], x: np.ndarray) -> None:
    outputs[0][:] = np.sinc(x)


def _numpy_sinc_gradients(outputs: list[np.ndarray], x: np.ndarray) -> None:
    y, dy_dx = outputs
    y[:] = np.sinc(x)
    dy_dx[:] = 0
    np.divide(np.cos(np.pi * x) - y, x, out=dy_dx, where=x != 0)


def _numpy_sigmoid_gate_gradients(outputs: list[np.ndarray], a: np.ndarray, b: np.ndarray) -> None:
    y, dy_da, dy_db = outputs
    gate_a, gate_b = _numpy_sigmoid(a), _numpy_sigmoid(b)
    np.multiply(a * gate_a, gate_b, out=y)
    np.multiply(gate_a * (1 + a * (1 - gate_a)), gate_b, out=dy_da)
    np.multiply(y, 1 - gate_b, out=dy_db)


def _numpy_linear_gate_gradients(outputs: list[np.ndarray], a: np.ndarray, b: np.ndarray) -> None:
    y, dy_da, dy_db = outputs
    gate = _numpy_sigmoid(a)
    np.multiply(a, gate, out=dy_db)
    np.multiply(dy_db, b, out=y)
    np.multiply(gate * (1 + a * (1 - gate)), b, out=dy_da)


FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "sinc": Formula(torch.sinc, _sinc_partials, _numpy_sinc, _numpy_sinc_gradients),
        "swiglu-sigmoid": Formula(
            lambda a, b: functional.silu(a) * torch.sigmoid(b),
            _sigmoid_gate_partials,
            lambda outputs, a, b: np.multiply(
                a * _numpy_sigmoid(a), _numpy_sigmoid(b), out=outputs[0]
            ),
            _numpy_sigmoid_gate_gradients,
        ),
        "swiglu-linear": Formula(
            lambda a, b: functional.silu(a) * b,
            _linear_gate_partials,
            lambda outputs, a, b: np.multiply(a * _numpy_sigmoid(a), b, out=outputs[0]),
            _numpy_linear_gate_gradients,
        ),
        "swish": Formula(
            functional.silu,
            _swish_partials,
            lambda outputs, x: np.multiply(x, _numpy_sigmoid(x), out=outputs[0]),
        ),
    }
)
