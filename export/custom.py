"""A user's own Torch module as an activation, exported and certified like those of `models`.

`package.module:NAME` may be a record (`models.Activation`), used as it is, or an ``nn.Module``
class. Of a class, everything is found out: its inputs are the arguments of ``forward``, its
decomposition is what ``torch.onnx.export`` makes of it, its derivatives are autograd's, and its
exact results are its own in float64, or, where it has an attribute ``formula`` (in SymPy's
language), that formula's in mpmath.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
import sympy
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from export.graph_ops import GraphOps
from export.trace import trace
from models import Activation, DType, Operator
from models.activation import Decomposition
from models.bounds import BENT
from models.symbols import Relu, Sigma


DOMAIN_OF_CUSTOM = (-100.0, 100.0)
"""Where custom modules are certified: further out many lose all digits, the sine of 1e30 say."""


class NotAnActivation(Exception):
    """What was named cannot be exported as an activation; the message says why."""


def load(target: str) -> Activation:
    """The activation that ``package.module:NAME`` names, looked for in the working folder too.

    Raises:
        NotAnActivation: There is no such name, or it is neither a record nor an elementwise module.
    """
    module_name, _, name = target.partition(":")
    if not name:
        msg = f"{target!r} is not of the form package.module:Name"
        raise NotAnActivation(msg)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        msg = f"{target}: {error}"
        raise NotAnActivation(msg) from error
    if isinstance(found, Activation):
        return found
    if isinstance(found, type) and issubclass(found, nn.Module):
        return activation_of(found)
    msg = f"{target} is neither an nn.Module class nor an Activation, but {type(found).__name__}"
    raise NotAnActivation(msg)


def activation_of(module: type[nn.Module]) -> Activation:
    """The record of a Torch module: elementwise, without arguments of its own, one output.

    Raises:
        NotAnActivation: The module needs arguments, takes no or optional tensors, or its result has
            not the shape of its inputs.
    """
    names = _tensor_names(module)
    _check_elementwise(module, names)
    summary = (inspect.getdoc(module) or module.__name__).strip().splitlines()[0]
    return Activation(
        name=re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", module.__name__).lower(),
        title=module.__name__,
        summary=summary,
        inputs=names,
        operators=(
            Operator(
                op_type=module.__name__,
                formula=_formula(module, names),
                module=module,
                value=_value_of(module),
                partials=_partials_of(module),
                tolerances=BENT,
                derivative_tolerances=BENT,
                scale=names,
            ),
        ),
        source=f"{module.__module__}:{module.__qualname__}",
        example={name: (-2.0, -0.5, 0.5, 1.0, 3.0) for name in names},
        plot_range=(-6.0, 6.0),
        properties=(),
        uses=(),
        limits=("Its derivatives are those that autograd finds.",),
        domain=DOMAIN_OF_CUSTOM,
    )


class _Partials(nn.Module):
    """The partial derivatives of an elementwise module, by autograd."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        result, pull_back = torch.func.vjp(self.module, *tensors)
        partials: tuple[Tensor, ...] = pull_back(torch.ones_like(result))
        return partials


def _value_of(module: type[nn.Module]) -> Decomposition:
    def value(op: Any, *tensors: Any) -> Any:
        if isinstance(op, GraphOps):
            (drawn,) = op.splice(_exported(module, op.dtype, len(tensors)), tensors)
            return drawn
        return module().to(tensors[0].dtype)(*tensors)

    return value


def _partials_of(module: type[nn.Module]) -> Decomposition:
    def build() -> nn.Module:
        return _Partials(module())

    def partials(op: Any, *tensors: Any) -> tuple[Any, ...]:
        if isinstance(op, GraphOps):
            return tuple(op.splice(_exported(build, op.dtype, len(tensors)), tensors))
        found: tuple[Tensor, ...] = build().to(tensors[0].dtype)(*tensors)
        return found

    return partials


@functools.cache
def _exported(build: Callable[[], nn.Module], dtype: DType, arity: int) -> ir.Model:
    """What Torch makes of a module, for tensors of one axis of any length."""
    kind = getattr(torch, dtype)
    arguments = {f"x{i}": torch.full((2,), 0.5, dtype=kind) for i in range(arity)}
    # Down to ATen first: torch.export by itself leaves fake tensors where autograd's are wanted.
    flat = make_fx(build().to(kind))(*arguments.values())
    size = torch.export.Dim("n")
    return trace(flat, arguments, (), dynamic_shapes=tuple({0: size} for _ in arguments))


def _tensor_names(module: type[nn.Module]) -> tuple[str, ...]:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if not parameters or any(p.kind != plain or p.default is not p.empty for p in parameters):
        msg = f"{module.__name__}.forward must take one tensor or more, by plain arguments"
        raise NotAnActivation(msg)
    return tuple(p.name for p in parameters)


def _check_elementwise(module: type[nn.Module], names: Sequence[str]) -> None:
    tensors = [torch.full((2, 3), 0.5) for _ in names]
    try:
        result = module()(*tensors)
    except Exception as error:
        msg = f"{module.__name__} fails on tensors of shape (2, 3): {error}"
        raise NotAnActivation(msg) from error
    if not isinstance(result, Tensor) or result.shape != (2, 3):
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        msg = f"{module.__name__} is not elementwise: of shape (2, 3) it makes {got}"
        raise NotAnActivation(msg)


def _formula(module: type[nn.Module], names: Sequence[str]) -> sympy.Expr:
    symbols = {name: sympy.Symbol(name, real=True) for name in names}
    written = getattr(module, "formula", None)
    if written is None:
        return sympy.Function(module.__name__)(*symbols.values())
    try:
        return sympy.sympify(written, locals={**symbols, "sigmoid": Sigma, "relu": Relu})
    except (sympy.SympifyError, TypeError, SyntaxError) as error:
        msg = f"{module.__name__}.formula {written!r} is not a SymPy expression: {error}"
        raise NotAnActivation(msg) from error
