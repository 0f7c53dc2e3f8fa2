"""Problems that keep a model from running correctly on a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import Types
from gatewave.graphs.analysis.scopes import Scope, scopes, standard_opset
from gatewave.graphs.rewrite.lower import excerpts, schema_check
from gatewave.graphs.rewrite.lower.legality import Legality, dtype_name, label_of, named
from gatewave.graphs.targets import Target
from gatewave.graphs.targets.verdicts import UNKNOWN, Loading

DEPTHS = (1, 2, 3)
"""Depths of the excerpts that are loaded: an optimiser joins two or three nodes."""

INITIALIZATION = "Exception during initialization"
"""Start of ONNX Runtime's errors from an optimiser or a kernel."""

FunctionCall = tuple[ir.OperatorIdentifier, tuple[ir.DataType | None, ...]]
"""A function, and the element types that it is called with."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that the target does not run, or gets wrong.

    Attributes:
        scope: The graph that it is in, as `Scope.name` has it; empty for the model itself, too.
        node: The node's name; empty where the whole model is meant.
        operator: Name of the operator, with its domain unless that is the standard one.
        dtype: The element type; empty if not known, or of no matter.
        why: The reason in one line.
        known: True for a known problem; false if it is unknown whether the operator runs.
    """

    scope: str
    node: str
    operator: str
    dtype: str
    why: str
    known: bool = True


def problems(
    model: ir.Model,
    target: Target,
    loading: Loading | None = None,
    *,
    legality: Legality | None = None,
) -> list[Problem]:
    """Return everything that keeps ``model`` from running correctly on ``target``.

    Args:
        model: The model; it is not changed.
        target: The target.
        loading: An attempt to load the model in the target itself, if one was made. If the target
            loads it, no node is reported as not known; if it refuses, there is a problem, at least
            one of the whole model.
        legality: The legality of the model as it is now, if it was made already.

    Raises:
        ModelError: A node does not fit its operator's schema.
    """
    schema_check.check(model)
    loads = loading is not None and loading.loads
    if loads and target.table is not None:
        return []  # no model is known that loads in ONNX Runtime and computes wrongly
    search = ProblemSearch(legality or Legality(model, target))
    found = [*_of_file(model, target), *search.problems()]
    if loads:
        return [problem for problem in found if problem.known]
    if loading is not None and loading.refused:
        if not any(problem.known for problem in found):
            found += search.of_neighbours()
        why = f"{loading.by} does not load the model: {loading.refused}"
        found.append(Problem("", "", "", "", why))
    return found


def _of_file(model: ir.Model, target: Target) -> Iterator[Problem]:
    labelled: list[tuple[str, Mapping[str, int]]] = [("", model.opset_imports)]
    labelled += [
        (f"function {f.domain}::{f.name}", f.opset_imports) for f in model.functions.values()
    ]
    for label, imports in labelled:
        opset = standard_opset(imports)
        if opset is not None and opset not in target.opsets:
            why = f"opset {opset}: {target.name} takes {target.opsets}"
            yield Problem(label, "", "", "", why)
    if model.ir_version not in target.ir:
        why = f"IR version {model.ir_version}: {target.name} takes {target.ir}"
        yield Problem("", "", "", "", why)
    if model.functions and not target.functions:
        names = ", ".join(f"{f.domain}::{f.name}" for f in model.functions.values())
        yield Problem("", "", "", "", f"{target.name} runs no model-local functions, as {names}")


class ProblemSearch:
    """Search for problems in the main graph, its bodies, and the functions that they call."""

    def __init__(self, legality: Legality) -> None:
        self._legality = legality
        self._model = legality.model
        self._target = legality.target
        self._bodies: dict[FunctionCall, list[Problem]] = {}

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of all nodes that run; a function's once for the types of its calls.

        A function that is never called never runs, so its nodes are no problem.
        """
        types = self._legality.types
        seen: set[FunctionCall] = set()
        for scope in scopes(self._model):
            if scope.in_function:
                continue
            for node in scope.graph:
                yield from self._of_node(scope, node, types)
                call = self.call(node, types)
                if call is not None and call not in seen:
                    seen.add(call)
                    yield from self.of_body(call)

    def of_neighbours(self) -> Iterator[Problem]:
        """Yield nodes that the target refuses, alone or together with their producers.

        For a model that the target refuses although it runs every node of it alone: an optimiser
        then fails on a few nodes together.
        """
        live, legality = self._target.live, self._legality
        if live is None:
            return
        for scope in scopes(self._model):
            for node in () if scope.in_function else scope.graph:
                for depth in DEPTHS:
                    nodes = excerpts.ancestry(node, depth)
                    alone = excerpts.model(nodes, legality.type_name, legality.imports(nodes))
                    found = live.verdict(alone, node.op_type) if alone else UNKNOWN
                    if found.state == "refused" or INITIALIZATION in found.why:
                        yield self._together(scope, nodes, found.why)
                        break

    def _together(self, scope: Scope, nodes: Sequence[ir.Node], why: str) -> Problem:
        node = nodes[-1]
        dtype = dtype_name(self._legality.dtype_of(node))
        names = ", then ".join(map(named, nodes))
        text = f"{self._target.name} does not run {names} in {dtype}: {why}"
        return Problem(scope.name, label_of(node), named(node), dtype, text)

    def _of_node(self, scope: Scope, node: ir.Node, types: Types) -> Iterator[Problem]:
        dtype = self._legality.dtype_of(node, types)
        why, known = self._legality.assess(node, dtype, types)
        if why:
            name = "" if dtype is None else dtype_name(dtype)
            yield Problem(scope.name, label_of(node), named(node), name, why, known)

    def call(self, node: ir.Node, types: Types) -> FunctionCall | None:
        """Return the function that ``node`` calls, and the element types; None if it calls none."""
        if node.op_identifier() not in self._model.functions:
            return None
        return node.op_identifier(), tuple(
            None if value is None else value.dtype or types.get(value) for value in node.inputs
        )

    def of_body(self, call: FunctionCall) -> Sequence[Problem]:
        """Return the problems of a function for these element types, with its callees'."""
        if call not in self._bodies:
            self._bodies[call] = []  # a function that calls itself is not searched again
            self._bodies[call] += self._within(call)
        return self._bodies[call]

    def _within(self, call: FunctionCall) -> Iterator[Problem]:
        identifier, kinds = call
        function = self._model.functions[identifier]
        types = element_types.of_function(self._model, function, kinds)
        types |= {v: k for v, k in zip(function.inputs, kinds, strict=False) if k is not None}
        label = f"function {function.domain}::{function.name}"
        if function.overload:
            label += f":{function.overload}"
        for scope in scopes(self._model):
            if scope.name.partition("/")[0] == label:
                for node in scope.graph:
                    yield from self._of_node(scope, node, types)
                    inner = self.call(node, types)
                    if inner is not None:
                        yield from self.of_body(inner)
