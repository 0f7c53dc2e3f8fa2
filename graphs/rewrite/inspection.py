"""Content of a model: its activations, and their share of the operations."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import onnx_ir as ir

from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.analysis.shapes import Shapes
from gatewave.graphs.documents import plain
from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.near_misses import near_misses
from gatewave.graphs.recognition.sites import NearMiss, Site, survey

RULE = (
    "Floating-point operations are estimates. MatMul, Gemm, Conv: 2 per multiply-add. Activations: "
    "a few per element, by kind. LSTM, GRU: those of their matrices. Other operators: 1 per "
    "element of the result. Unknown sizes count as 1, a loop as one pass, an If as both branches."
)

MAX_ELEMENTS = 2**63 - 1
"""Limit on elements of a tensor: a damaged model may declare any dimensions."""

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Recurrent operators, with the number of their gates."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """Findings in a model.

    Attributes:
        sites: The activations.
        shares: Share of each in the model's operations, by `RULE`.
        near_misses: Near misses and activations that cannot be replaced, with the reason.
        opsets: The version imported of each domain.
        ir_version: Version of the file format.
        producer: The tool that wrote the model, if known.
        dtypes: The number of values of each known element type.
        operations: All of the model's, estimated.
        open_sizes: The number of values with unknown sizes.
    """

    sites: list[Site]
    shares: Mapping[Site, float]
    near_misses: list[NearMiss]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    dtypes: Mapping[str, int]
    operations: int
    open_sizes: int

    def counts(self) -> Mapping[tuple[str, str], int]:
        """Return the number of activations of each kind and spelling."""
        return Counter((site.kind, site.written) for site in self.sites)


def inspect(model: ir.Model) -> Inspection:
    """Inspect ``model``, which is not changed."""
    found = survey(model)
    nodes = [node for scope in scopes(model) for node in scope.graph]
    costs = {node: _cost(node, found.shapes) for node in nodes}
    at_sites = {
        site: _elements(site.output, found.shapes) * _per_element(site) for site in found.sites
    }
    inside = set(itertools.chain.from_iterable(site.nodes for site in found.sites))
    total = sum(at_sites.values()) + sum(costs[node] for node in nodes if node not in inside)
    values = [value for node in nodes for value in node.outputs]
    known = Counter(dtype.name for v in values if (dtype := found.shapes.dtype(v)) is not None)
    return Inspection(
        sites=found.sites,
        shares={site: cost / total for site, cost in at_sites.items()} if total else {},
        near_misses=near_misses(found),
        opsets=dict(model.opset_imports),
        ir_version=model.ir_version,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        dtypes=dict(known),
        operations=total,
        open_sizes=sum(_is_open(value, found.shapes) for value in values),
    )


def report(inspection: Inspection) -> Any:
    """Return the inspection as a JSON document."""
    return plain(_document(inspection))


def _document(inspection: Inspection) -> dict[str, Any]:
    return {
        "ir_version": inspection.ir_version,
        "opsets": dict(inspection.opsets),
        "producer": inspection.producer,
        "dtypes": dict(inspection.dtypes),
        "operations": inspection.operations,
        "values_of_unknown_size": inspection.open_sizes,
        "activations": [_site(site, inspection) for site in inspection.sites],
        "near_misses": [
            {
                "kind": miss.site.kind,
                "node": miss.site.name,
                "reason": miss.reason,
                "scope": miss.site.scope.name,
                "operators": [node.op_type for node in miss.site.nodes],
                "output": miss.site.output.name,
            }
            for miss in inspection.near_misses
        ],
    }


def _site(site: Site, inspection: Inspection) -> dict[str, Any]:
    return {
        "kind": site.kind,
        "parameters": dict(site.reals),
        "per_channel": {name: asdict(one) for name, one in site.ranges.items()},
        "written": site.written,
        "layout": site.layout,
        "scope": site.scope.name,
        "node": site.root.name,
        "operators": [node.op_type for node in site.nodes],
        "inputs": [value.name for value in site.inputs],
        "output": site.output.name,
        "dtype": None if site.dtype is None else site.dtype.name,
        "share": inspection.shares.get(site, 0.0),
    }


def _per_element(site: Site) -> int:
    return KINDS[site.kind].cost


def _cost(node: ir.Node, shapes: Shapes) -> int:
    """Return the cost of one node in operations."""
    results = sum(_elements(value, shapes) for value in node.outputs)
    if node.op_type in {"MatMul", "Gemm", "Conv"} and len(node.inputs) > 1:
        return 2 * results * _terms(node, shapes)
    if node.op_type in GATES and len(node.inputs) > 2:  # noqa: PLR2004
        # X is [steps, batch, …]; each step multiplies by the weights W and the recurrence R.
        steps = _sizes(node.inputs[0], shapes)[:2]
        weights = (_product(_sizes(value, shapes)) for value in node.inputs[1:3])
        return 2 * _product(steps) * sum(weights)
    return 0 if node.op_type == "Constant" else results


def _terms(node: ir.Node, shapes: Shapes) -> int:
    """Return the number of products that are summed for each element of the result."""
    weight = _sizes(node.inputs[1], shapes)
    if node.op_type == "Conv":
        return _product(weight[1:])
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        columns = transposed is not None and bool(transposed.as_int())
        return weight[-1 if columns else 0] if weight else 1
    left = _sizes(node.inputs[0], shapes)
    return next(iter([*left[-1:], *weight[-2:-1], 1]))


def _sizes(value: ir.Value | None, shapes: Shapes) -> list[int]:
    shape = None if value is None else shapes.shape(value)
    return [] if shape is None else [d if _is_size(d) else 1 for d in shape]


def _is_size(dimension: object) -> TypeGuard[int]:
    return isinstance(dimension, int) and dimension >= 0


def _elements(value: ir.Value, shapes: Shapes) -> int:
    return _product(_sizes(value, shapes))


def _product(sizes: Iterable[int]) -> int:
    return functools.reduce(lambda product, size: min(product * size, MAX_ELEMENTS), sizes, 1)


def _is_open(value: ir.Value, shapes: Shapes) -> bool:
    shape = shapes.shape(value)
    return shape is None or not all(_is_size(size) for size in shape)
