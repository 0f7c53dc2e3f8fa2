"""Comparison of two runtimes node by node, each node run on its own with equal inputs.

Two runtimes give different outputs for a model if one of them has a defect in a node, or if the
graph amplifies their roundings. To tell these apart, both run each node on the values that reach it
in the first runtime (ADR 32).
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from gatewave.certificates import node_models
from gatewave.certificates.document import DifferingNode
from gatewave.certificates.expected import Expected
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify import random_outputs
from gatewave.graphs.verify.allowance import Allowance
from gatewave.graphs.verify.conditioning import nudges
from gatewave.graphs.verify.samples import Case
from gatewave.graphs.verify.sessions import flat
from gatewave.graphs.verify.tensor_difference import Difference, described, dtype_of

NO_TIME = "there was no time for it (--timeout)"


@dataclass(frozen=True)
class WalkResult:
    """Result of a walk.

    Attributes:
        nodes: The number of nodes, without constants.
        differing: Nodes with different results in some case, by name.
        unchecked: The reason why a node was not compared in some case, by name.
        tainted: By case, the outputs that a differing node reaches, each with that node.
        verified_outputs: By case, the outputs whose preceding nodes were all compared.
    """

    nodes: int = 0
    differing: Mapping[str, DifferingNode] = field(default_factory=dict)
    unchecked: Mapping[str, str] = field(default_factory=dict)
    tainted: Mapping[str, Mapping[str, DifferingNode]] = field(default_factory=dict)
    verified_outputs: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def checked(self) -> int:
        return self.nodes - len({*self.differing, *self.unchecked})


@dataclass
class _WalkState:
    """The values of one case at the current node of the walk.

    Attributes:
        case: The case.
        values: The values that later nodes take.
        tainted: The values that depend on a differing node.
        unverified: The values that depend on a node that was not compared.
    """

    case: Case
    values: dict[ir.Value, Value]
    tainted: dict[ir.Value, str] = field(default_factory=dict)
    unverified: set[ir.Value] = field(default_factory=set)

    def has(self, node: ir.Node) -> bool:
        return all(
            v in self.values or node_models.constant(v) is not None for v in node_models.taken(node)
        )

    def inputs(self, node: ir.Node) -> dict[str, Value]:
        taken = (value for value in node_models.taken(node) if value in self.values)
        return {value.name or "": self.values[value] for value in taken}

    def add(
        self, node: ir.Node, results: Mapping[str, Value], *, verified: bool, differing: bool
    ) -> None:
        taken = node_models.taken(node)
        inherited = next((self.tainted[value] for value in taken if value in self.tainted), None)
        taint = inherited or (node_models.named(node) if differing else None)
        unverified = not verified or any(value in self.unverified for value in taken)
        for value in node.outputs:
            if value.name and value.name in results:
                self.values[value] = results[value.name]
            if taint:
                self.tainted[value] = taint
            if unverified:
                self.unverified.add(value)


@dataclass
class _Run:
    """A runtime that has loaded a node, or its reason for not loading it."""

    running: RuntimeClient
    path: Path
    inputs: Sequence[str]
    outputs: Sequence[str]
    why: str = ""

    def load(self) -> None:
        try:
            self.running.load(self.path, self.inputs, self.outputs, sequences=True)
        except Refused as error:
            self.why = f"{self.running.runtime.title}: {error}"

    def __call__(self, inputs: Mapping[str, Value]) -> dict[str, Value] | None:
        """Return the node's results for ``inputs``; None if it fails."""
        if self.why:
            return None
        try:
            return self.running.run(inputs)
        except Refused as error:
            self.why = f"{self.running.runtime.title}: {error}"
            return None


class NodeWalk:
    """Walk over a graph whose nodes two runtimes run one by one.

    Args:
        model: The model; its nodes must be sorted.
        first: The runtime whose values later nodes take; the second's are taken if it has none.
        second: The runtime that is compared with it.
        tolerance: The difference that is allowed between floats.
        seed: Seed of the perturbed inputs.
    """

    def __init__(
        self,
        model: ir.Model,
        first: RuntimeClient,
        second: RuntimeClient,
        tolerance: Allowance,
        seed: int,
    ) -> None:
        model.graph.sort()
        self._model = model
        self._runtimes = first, second
        self._tolerance = tolerance
        self._source = np.random.default_rng(seed)
        self._differing: dict[str, DifferingNode] = {}
        self._unchecked: dict[str, str] = {}
        self._tainted: dict[str, Mapping[str, DifferingNode]] = {}
        self._verified_outputs: dict[str, frozenset[str]] = {}

    def walk(self, cases: Sequence[Case], end: float) -> WalkResult:
        """Run every node on the values that reach it, in each of ``cases``; stop at ``end``.

        Returns the result of these cases and all earlier ones.
        """
        inputs = {value.name: value for value in self._model.graph.inputs}
        states = [
            _WalkState(case, {inputs[name]: value for name, value in case.inputs.items()})
            for case in cases
        ]
        nodes = [node for node in self._model.graph if not _is_constant(node)]
        # Uses of each value: it is dropped after the last one, which bounds the memory.
        kept = Counter(value for node in nodes for value in node_models.taken(node))
        kept.update(self._model.graph.outputs)
        with tempfile.TemporaryDirectory() as folder:
            for node in nodes:
                if time.monotonic() > end:
                    self._unchecked[node_models.named(node)] = NO_TIME
                    continue
                self._node(node, Path(folder) / "node.onnx", states)
                kept.subtract(node_models.taken(node))
                for state in states:
                    for value in node_models.taken(node):
                        if not kept[value]:
                            state.values.pop(value, None)
        for state in states:
            self._tainted[state.case.name] = dict(self._taints(state))
            self._verified_outputs[state.case.name] = frozenset(self._verified(state))
        return WalkResult(
            len(nodes), self._differing, self._unchecked, self._tainted, self._verified_outputs
        )

    def _taints(self, state: _WalkState) -> Iterator[tuple[str, DifferingNode]]:
        for value in self._model.graph.outputs:
            if value in state.tainted:
                yield value.name or "", self._differing[state.tainted[value]]

    def _verified(self, state: _WalkState) -> Iterator[str]:
        for value in self._model.graph.outputs:
            known = value in state.values or node_models.constant(value) is not None
            if known and value not in state.unverified:
                yield value.name or ""

    def _node(self, node: ir.Node, path: Path, states: Iterable[_WalkState]) -> None:
        ready = [state for state in states if state.has(node)]
        if not ready:
            self._unchecked[node_models.named(node)] = "its inputs were not computed"
            return
        each = [state.inputs(node) for state in ready]
        inputs = {name: [one[name] for one in each] for name in each[0]}
        try:
            content = node_models.model_of(node, self._model, inputs).SerializeToString()
        # A constant beyond 2 GiB does not fit into a protobuf; some dtypes are no ONNX types.
        except (ValueError, TypeError, KeyError) as error:
            self._unchecked[node_models.named(node)] = str(error)
            return
        path.write_bytes(content)
        first, second = (
            _Run(running, path, [*inputs], node_models.given(node)) for running in self._runtimes
        )
        first.load()
        second.load()
        for state in ready:
            self._compare(node, state, first, second)

    def _compare(self, node: ir.Node, state: _WalkState, first: _Run, second: _Run) -> None:
        name, inputs = node_models.named(node), state.inputs(node)
        one, other = first(inputs), second(inputs)
        results = other if one is None else one
        if results is None:
            self._unchecked[name] = f"{first.why}; {second.why}"
            return
        verified, found = one is not None and other is not None, None
        case = Case(state.case.name, inputs, state.case.extreme)
        if not verified:
            self._unchecked[name] = first.why or second.why
        elif random_outputs.is_random(node, self._model):
            self._unchecked[name], verified = "it draws random numbers", False
        else:
            found = self._difference(case, one or {}, other or {}, first)
        if found is not None:
            self._note(node, case, *found)
        state.add(node, results, verified=verified, differing=found is not None)

    def _difference(
        self, case: Case, want: Mapping[str, Value], got: Mapping[str, Value], first: _Run
    ) -> tuple[str, Difference] | None:
        """Return the output that differs most beyond both errors, with its difference."""
        wanted, gotten = arrays(want), arrays(got)
        missing = wanted.keys() ^ gotten.keys()
        if not missing and Expected(case, wanted, []).worst(gotten, self._tolerance) is None:
            return None
        moves = [*nudges(case, self._source)]
        moved = [arrays(found) for move in moves if (found := first(move.inputs)) is not None]
        if any(kinds(one) != kinds(wanted) for one in moved):
            return None  # The sizes of its outputs depend on the last bits of its inputs.
        if missing:
            return ", ".join(missing), Difference(used=math.inf)
        return Expected(case, wanted, moved).worst(gotten, self._tolerance)

    def _note(self, node: ir.Node, case: Case, output: str, found: Difference) -> None:
        name = node_models.named(node)
        if name in self._differing:
            known = self._differing[name]
            self._differing[name] = known.model_copy(update={"cases": (*known.cases, case.name)})
            return
        first, second = (running.runtime.title for running in self._runtimes)
        place = found.place
        values = "" if place is None else f" is {place.original!r} by {first}"
        values += "" if place is None else f", {place.rewritten!r} by {second}"
        at = "" if place is None or place.index is None else str(list(place.index))
        dtypes = dict.fromkeys(dtype_of(v) for v in case.inputs.values() if hasattr(v, "dtype"))
        self._differing[name] = DifferingNode(
            node=name,
            operator=node_models.operator(node),
            opset=self._model.opset_imports.get(node.domain) or 1,
            dtype=", ".join(dtypes) or "no inputs",
            says=f"{output}{at}{values} ({case.name})",
            cases=(case.name,),
        )


def _is_constant(node: ir.Node) -> bool:
    return node.op_type == "Constant" and node_models.constant(node.outputs[0]) is not None


def arrays(results: Mapping[str, Value]) -> dict[str, Array]:
    """Return the arrays of all results; items of a sequence are named ``y[0]``, ``y[1]``."""
    return {name: array for name, array in flat(results).items() if array is not None}


def kinds(arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return the dtype and the shape of each array, in words."""
    return {name: described(array) for name, array in arrays.items()}
