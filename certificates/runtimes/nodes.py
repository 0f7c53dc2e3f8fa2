"""The nodes of our domain, computed from the record by NumPy or Torch, without a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx.reference.op_run import OpRun

from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_OPERATORS, Graph
from gatewave.models import Operator

ComputeGraph = Callable[[Operator, Graph, Sequence[Any], Mapping[str, float]], Sequence[Any]]
"""Computes a graph of an operator for arrays and real parameters."""


def nodes(compute: ComputeGraph) -> list[type[OpRun]]:
    """All of them, as the reference evaluator has classes for operators."""
    return [_node(name, compute) for name in DOMAIN_OPERATORS]


def _node(name: str, compute: ComputeGraph) -> type[OpRun]:
    activation, operator, graph = DOMAIN_OPERATORS[name]
    count = len(signature.inputs(activation, graph))

    def run(_: OpRun, *inputs: Any, **attributes: float) -> tuple[Any, ...]:
        reals = {**activation.defaults(operator), **attributes}
        reals |= {n: float(v) for n, v in zip(operator.reals, inputs[count:], strict=False)}
        return tuple(compute(operator, graph, inputs[:count], reals))

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})
