"""Operators of our domain for the reference evaluator, computed from the records.

They let NumPy and Torch run an activation as the framework itself does, without its ONNX graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx.reference.op_run import OpRun

from gatewave.graphs.ops import signature
from gatewave.graphs.ops.signature import DOMAIN, DOMAIN_OPERATORS, Graph
from gatewave.models import Operator

ComputeGraph = Callable[[Operator, Graph, Sequence[Any], Mapping[str, float]], Sequence[Any]]
"""Computes a graph of an operator for arrays and real parameters."""


def record_operators(compute: ComputeGraph) -> list[type[OpRun]]:
    """Return a class of the reference evaluator for each operator of our domain."""
    return [_operator(name, compute) for name in DOMAIN_OPERATORS]


def _operator(name: str, compute: ComputeGraph) -> type[OpRun]:
    activation, operator, graph = DOMAIN_OPERATORS[name]
    count = len(signature.inputs(activation, graph))

    def run(_: OpRun, *inputs: Any, **attributes: float) -> tuple[Any, ...]:
        # A real parameter is an attribute, or an input after the activation's own.
        reals = {**activation.defaults(operator), **attributes}
        reals |= {n: float(v) for n, v in zip(operator.reals, inputs[count:], strict=False)}
        return tuple(compute(operator, graph, inputs[:count], reals))

    return type(name, (OpRun,), {"op_domain": DOMAIN, "_run": run})
