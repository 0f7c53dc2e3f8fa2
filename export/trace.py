"""Torch modules as ONNX graphs, in which each activation of ours is one node of our domain."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn

from export import signature
from export.recorded_ops import Translations
from models import Activation, DType, Operator
from models.torch_ops import common_dtype

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
            yield from _node(signature.op_type(self.operator, graph), given, reals, count)


def trace(
    module: nn.Module,
    arguments: Mapping[str, Tensor],
    operators: Iterable[Operator],
    *,
    dynamic_shapes: Any = None,
    opset: int = OPSET,
    translations: Translations | None = None,
) -> ir.Model:
    """Export ``module`` through ``torch.onnx.export``; in it, each of ``operators`` is one node.

    Args:
        module: Any module; those that an operator matches may be anywhere inside. It is exported
            as it evaluates, not as it trains, and left as it was.
        arguments: Example tensors, by the names that the graph's inputs are to have.
        operators: What to keep whole. All else becomes the standard operators that Torch chooses.
        dynamic_shapes: As ``torch.onnx.export`` takes them.
        opset: Of the standard operators.
        translations: What Torch's own functions become, where Torch is not to choose.

    Raises:
        torch.onnx.OnnxExporterError: Torch cannot export the module.
    """
    with _evaluating(module), _as_nodes(module, operators), _quiet():
        program = torch.onnx.export(
            module,
            tuple(arguments.values()),
            dynamo=True,
            opset_version=opset,
            custom_translation_table=translations,
            input_names=list(arguments),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
            optimize=True,
        )
    if program is None:  # pragma: no cover - the exporter's type allows it; dynamo=True does not
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """While open, all parts of ``module`` are in evaluation mode."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


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
    reals = {name: float(getattr(module, name)) for name in operator.reals}
    arguments = inspect.signature(module.forward)

    def forward(*args: Tensor, **kwargs: Tensor) -> Tensor:
        tensors = arguments.bind(*args, **kwargs).args
        # The node takes equal shapes and dtypes; where they are equal, this draws nothing.
        dtype = common_dtype(*tensors)
        same = torch.broadcast_tensors(*tensors)  # type: ignore[no-untyped-call]  # by Torch
        alike = [tensor.to(dtype) for tensor in same]
        (result,) = _node(operator.op_type, alike, reals, 1)
        return result

    return forward


def _node(
    op_type: str, tensors: Sequence[Tensor], reals: Mapping[str, float], count: int
) -> Sequence[Tensor]:
    """A node of our domain; its ``count`` results have the shape and dtype of its tensors."""
    like = tensors[0]
    return torch.onnx.ops.symbolic_multi_out(
        f"{signature.DOMAIN}::{op_type}",
        tensors,
        {**reals},
        dtypes=[like.dtype] * count,
        shapes=[like.shape] * count,
        version=signature.DOMAIN_VERSION,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Torch says about itself: what is not installed, deprecated, or called alike."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "# The axis name: .* will not be used", UserWarning)
            yield
    finally:
        logger.setLevel(level)
