"""Measured case: a graph of a record in one dtype, with its tensors at one size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn

from benchmarks.kernels.formulas import Formula, formula_of
from gatewave.export.operators import decomposed, graphs_of, to_bytes
from gatewave.export.torch.trace import trace
from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import Graph
from gatewave.models import ACTIVATIONS, Activation, DType, Operator

SEED = 0
SPREAD = 2.0
"""Standard deviation of the normally distributed inputs."""

CHOSEN = (
    "sinc value",
    "swiglu-sigmoid value",
    "swiglu-linear value",
    "swish value",
    "sinc grad",
    "swiglu-sigmoid grad",
    "swiglu-linear grad",
)


@dataclass(frozen=True)
class Case:
    """Graph of an operator: the value, or the value and its partial derivatives."""

    activation: Activation
    operator: Operator
    graph: Graph
    dtype: DType

    @property
    def name(self) -> str:
        return f"{self.activation.stem(self.operator)} {self.graph}"

    @property
    def formula(self) -> Formula:
        return formula_of(self.activation.stem(self.operator), self.operator)

    @functools.cached_property
    def ours(self) -> bytes:
        """Return the artifact: one node with its function body."""
        return to_bytes(self._model)

    @functools.cached_property
    def decomposed(self) -> bytes:
        return to_bytes(decomposed(self._model))

    @functools.cached_property
    def exported(self) -> bytes:
        """Return the plain formula as exported by ``torch.onnx.export``."""
        arguments = {
            name: torch.ones(2, dtype=getattr(torch, self.dtype)) for name in self.activation.inputs
        }
        size = torch.export.Dim("n")
        shapes = (tuple({0: size} for _ in arguments),)
        model = trace(_Plain(self), arguments, (), dynamic_shapes=shapes)
        content: bytes = ir.to_proto(model).SerializeToString()
        return content

    def tensors(self, size: int) -> tuple[list[Tensor], list[Tensor]]:
        """Return the inputs, always the same, and tensors for the outputs."""
        dtype = getattr(torch, self.dtype)
        source = torch.Generator().manual_seed(SEED)
        inputs = [
            (torch.randn(size, generator=source) * SPREAD).to(dtype) for _ in self.activation.inputs
        ]
        outputs = signature.outputs(self.activation, self.graph)
        return inputs, [torch.zeros(size, dtype=dtype) for _ in outputs]

    def plain(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return all outputs of the graph by the plain formula."""
        value = self.formula.value(*inputs)
        return (value,) if self.graph == "value" else (value, *self.formula.partials(*inputs))

    @functools.cached_property
    def _model(self) -> ir.Model:
        return graphs_of(self.activation, self.operator, [self.dtype])[self.graph, self.dtype]


class _Plain(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.case.plain(*tensors)


def cases(dtype: DType, *, every: bool) -> Iterator[Case]:
    """Yield the cases with goals and Swish, or those of every record."""
    found = [
        Case(activation, operator, graph, dtype)
        for activation in ACTIVATIONS.values()
        for operator, graph in itertools.product(activation.operators, signature.GRAPHS[:2])
    ]
    if every:
        yield from found
    else:
        by_name = {case.name: case for case in found}
        yield from (by_name[name] for name in CHOSEN)
