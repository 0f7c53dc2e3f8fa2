"""Torch modules as ONNX graphs, in which each activation of ours is one node of our domain."""

from __future__ import annotations

import contextlib
import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from export import signature
from models import Activation, DType, Operator

OPSET = 18
"""What Torch's exporter writes; the artifacts' own opset is lower and set when they are drawn."""


class ActivationGraphs(nn.Module):
    """An operator's graphs side by side, in several dtypes: value, value and derivatives, and VJP.

    Called with ``(*inputs, grad_y)`` once per dtype, one after the other, it gives the outputs of
    each graph in turn. Tracing it once is ten times as fast as tracing each graph by itself.
    """

    def __init__(self, activation: Activation, operator: Operator) -> None:
        super().__init__()
        self.activation = activation
        self.operator = operator
        self.function = operator.build(**activation.defaults(operator))

    def arguments(self, dtypes: Sequence[DType]) -> dict[str, Tensor]:
        """Example tensors, under names that are not taken twice."""
        return {
            f"{name}_{dtype}": torch.ones(2, dtype=getattr(torch, dtype))
            for dtype in dtypes
            for name in signature.inputs(self.activation, "vjp")
        }

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        group = len(signature.inputs(self.activation, "vjp"))
        found: list[Tensor] = []
        for start in range(0, len(tensors), group):
            found += self._graphs(tensors[start : start + group])
        return tuple(found)

    def _graphs(self, tensors: Sequence[Tensor]) -> Iterator[Tensor]:
        reals = {name: getattr(self.function, name) for name in self.operator.reals}
        yield self.function(*tensors[:-1])
        for graph in ("grad", "vjp"):
            given = tensors[: len(signature.inputs(self.activation, graph))]
            count = len(signature.outputs(self.activation, graph))
            yield from _emit(signature.op_type(self.operator, graph), given, reals, count)


def trace(
    module: nn.Module,
    arguments: Mapping[str, Tensor],
    operators: Iterable[Operator],
    *,
    dynamic_shapes: Any = None,
) -> ir.Model:
    """Export ``module`` through ``torch.onnx.export``; in it, each of ``operators`` is one node.

    Args:
        module: Any module; those that an operator matches may be anywhere inside.
        arguments: Example tensors, by the names that the graph's inputs are to have.
        operators: What to keep whole. All else becomes the standard operators that Torch chooses.
        dynamic_shapes: As ``torch.onnx.export`` takes them.

    Raises:
        torch.onnx.OnnxExporterError: Torch cannot export the module.
    """
    with _as_nodes(module, operators), _quiet():
        program = torch.onnx.export(
            module.eval(),
            tuple(arguments.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(arguments),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
            optimize=True,
        )
    if program is None:  # pragma: no cover - the exporter's type allows it; dynamo=True does not
        msg = "torch.onnx.export gave no program"
        raise RuntimeError(msg)
    return program.model


@contextlib.contextmanager
def _as_nodes(module: nn.Module, operators: Iterable[Operator]) -> Iterator[None]:
    """While open, the parts of ``module`` that an operator matches export as its nodes."""
    replaced = [
        (part, operator)
        for part, operator in itertools.product(module.modules(), operators)
        if operator.matches(part)
    ]
    for part, operator in replaced:
        part.forward = _node_of(part, operator)
    try:
        yield
    finally:
        for part, _ in replaced:
            del part.forward


def _node_of(module: nn.Module, operator: Operator) -> Callable[..., Tensor]:
    reals = {name: getattr(module, name) for name in operator.reals}

    def forward(*tensors: Tensor) -> Tensor:
        (result,) = _emit(operator.op_type, tensors, reals, 1)
        return result

    return forward


def _emit(
    op_type: str, tensors: Sequence[Tensor], reals: dict[str, float], count: int
) -> Sequence[Tensor]:
    like = tensors[0]
    return torch.onnx.ops.symbolic_multi_out(
        f"{signature.DOMAIN}::{op_type}",
        tensors,
        reals,
        dtypes=[like.dtype] * count,
        shapes=[like.shape] * count,
        version=signature.DOMAIN_VERSION,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed, and its own future."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
