"""A user's module and its derivatives as ONNX graphs, and as Torch computes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn
from torch._decomp import decomposition_table, get_decompositions
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx

from gatewave.export.errors import NotAnActivationError
from gatewave.export.torch.trace import trace
from gatewave.export.torch.translations import torch_translations
from gatewave.models import DTYPES, DType

Build = Callable[[], nn.Module]
"""Makes a new module."""

BACKWARD: tuple[OpOverload[..., Any], ...] = tuple(
    function
    for function in decomposition_table
    if isinstance(function, OpOverload) and "_backward" in str(function)
)
"""Decompositions of Torch's derivatives, which the exporter does not know."""

TAKEN_APART = (*BACKWARD, torch.ops.aten.log_sigmoid_forward, torch.ops.aten.rrelu_with_noise)

ROUGH = 1e-6
"""Slopes that differ by less, relatively, are the same one, computed in another way."""


class _WithPartials(nn.Module):
    """An elementwise module and its partial derivatives, by autograd."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        # Not torch.func.vjp, which refuses an autograd.Function without setup_context.
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in tensors]
            result = self.module(*leaves)
            if not result.requires_grad:  # it does not depend on them, or in steps only
                return (result, *map(torch.zeros_like, tensors))
            upstream = torch.ones_like(result)
            slopes = torch.autograd.grad(result, leaves, upstream, materialize_grads=True)
            return (result.detach(), *slopes)


def ready(module: nn.Module, kind: torch.dtype) -> nn.Module:
    return module.to(kind).eval()


def partials(build: Build, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The partial derivatives, by Torch's formulas for them, and where those part, by autograd.

    Autograd runs kernels, some of which have float32 constants in float64 (Torch 2.13: the slope of
    Hardsigmoid is 1/6 in float32).
    """
    kind = tensors[0].dtype
    flat = [tensor.reshape(-1) for tensor in tensors]
    try:
        _, *found = ready(_WithPartials(build()), kind)(*flat)
    except Exception as error:  # this runs the user's code, which may fail in any way
        raise NotAnActivationError(f"autograd finds no derivative: {error}") from error
    try:
        _, *formulas = flattened(build, _dtype_of(kind), len(tensors))(*flat)
    except NotAnActivationError:  # it is refused, with the reason, when its graphs are drawn
        formulas = found
    close = [
        (mine - given).abs() <= ROUGH * given.abs().clamp(1.0)
        for mine, given in zip(formulas, found, strict=True)
    ]
    merged = map(torch.where, close, formulas, found)
    return tuple(slope.reshape(tensors[0].shape) for slope in merged)


def _dtype_of(kind: torch.dtype) -> DType:
    return next(dtype for dtype in DTYPES if getattr(torch, dtype) == kind)


def value_model(build: Build, dtype: DType, arity: int) -> ir.Model:
    """Export a module with Torch, with its derivatives if it has them."""
    try:
        return model_of(build, dtype, arity)
    except NotAnActivationError:
        return model_of(build, dtype, arity, value_only=True)


@functools.cache
def model_of(build: Build, dtype: DType, arity: int, *, value_only: bool = False) -> ir.Model:
    """Export a module with Torch, for tensors of one axis of any length."""
    arguments = _arguments(dtype, arity)
    size = torch.export.Dim("n")
    shapes = tuple({0: size} for _ in arguments)
    flat = flattened(build, dtype, arity, value_only=value_only)
    try:
        return trace(flat, arguments, (), dynamic_shapes=shapes, translations=torch_translations())
    except Exception as error:  # tracing runs the user's code, which may fail in any way
        raise _refusal(dtype, error) from error


def _refusal(dtype: DType, error: Exception) -> NotAnActivationError:
    return NotAnActivationError(f"Torch cannot export it in {dtype}: {error}")


@functools.cache
def flattened(
    build: Build, dtype: DType, arity: int, *, value_only: bool = False
) -> fx.GraphModule:
    """A module and its derivatives in ATen's functions.

    torch.export by itself leaves fake tensors where autograd's are wanted. Symbolically, or the
    length of the examples would stay in the graph; parameters are real.

    Raises:
        NotAnActivationError: Torch cannot trace it.
    """
    kind = getattr(torch, dtype)
    flatten = make_fx(
        ready(build() if value_only else _WithPartials(build()), kind),
        decomposition_table=get_decompositions(TAKEN_APART),  # type: ignore[arg-type]
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )
    try:
        return _with_tensor_constants(flatten(*_arguments(dtype, arity).values()), kind)
    except Exception as error:  # tracing runs the user's code, which may fail in any way
        raise _refusal(dtype, error) from error


def _arguments(dtype: DType, arity: int) -> dict[str, Tensor]:
    kind = getattr(torch, dtype)
    return {f"x{i}": torch.full((2,), 0.5, dtype=kind) for i in range(arity)}


def _with_tensor_constants(flat: fx.GraphModule, kind: torch.dtype) -> fx.GraphModule:
    """The same graph, its numbers tensors: Torch's exporter rounds Python's to float32."""
    for node in list(flat.graph.nodes):
        if not isinstance(node.target, OpOverload):
            continue
        for index, (value, declared) in enumerate(
            zip(node.args, node.target._schema.arguments, strict=False)  # noqa: SLF001 - no other
        ):
            if isinstance(value, float) and isinstance(declared.type, torch.TensorType):
                name = f"_constant_{node.name}_{index}"
                flat.register_buffer(name, torch.tensor(value, dtype=kind))
                with flat.graph.inserting_before(node):
                    node.update_arg(index, flat.graph.get_attr(name))
    flat.recompile()
    return flat
