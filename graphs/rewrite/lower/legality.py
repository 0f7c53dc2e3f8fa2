"""Legality of a model on a target: the nodes that do not run there, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.analysis import element_types
from gatewave.graphs.analysis.element_types import NAMES, Types
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.rewrite.lower import excerpts, naive_sinc, relu_clip, schemas
from gatewave.graphs.rewrite.lower.conversion import TYPE_NAMES, disallowed, since
from gatewave.graphs.rewrite.lower.lowerings import LOWERINGS, attributes_of, identifier_of
from gatewave.graphs.targets import Target, signatures
from gatewave.graphs.targets.verdicts import REFUSED, RUNS, UNKNOWN, Loading, NodeQuery, Verdict

MOVING = frozenset(
    {
        *("Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Flatten"),
        *("Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Reshape", "Scan"),
        *("Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""Operators that move numbers without computing: a target takes them in any element type.

Not so `Expand`, `Size` and `Tile`, which ONNX Runtime refuses in bfloat16.
"""

PROBED_DOMAINS = ("", "com.microsoft", "ai.onnx.ml")
"""Domains that are part of a runtime; operators of other domains come from libraries."""

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
        why: One line for people.
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
    schemas.check(model)
    loads = loading is not None and loading.loads
    if loads and target.table is not None:
        return []  # no model is known that loads in ONNX Runtime and computes wrongly
    legality = legality or Legality(model, target)
    found = [*_of_file(model, target), *legality.problems()]
    if loads:
        return [problem for problem in found if problem.known]
    if loading is not None and loading.refused:
        if not any(problem.known for problem in found):
            found += legality.of_neighbours()
        why = f"{loading.by} does not load the model: {loading.refused}"
        found.append(Problem("", "", "", "", why))
    return found


def opset_of(model: ir.Model) -> int | None:
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx"))


def _of_file(model: ir.Model, target: Target) -> Iterator[Problem]:
    labelled: list[tuple[str, Mapping[str, int]]] = [("", model.opset_imports)]
    labelled += [
        (f"function {f.domain}::{f.name}", f.opset_imports) for f in model.functions.values()
    ]
    for label, imports in labelled:
        opset = imports.get("", imports.get("ai.onnx"))
        if opset is not None and opset not in target.opsets:
            why = f"opset {opset}: {target.name} takes {target.opsets}"
            yield Problem(label, "", "", "", why)
    if model.ir_version not in target.ir:
        why = f"IR version {model.ir_version}: {target.name} takes {target.ir}"
        yield Problem("", "", "", "", why)
    if model.functions and not target.functions:
        names = ", ".join(f"{f.domain}::{f.name}" for f in model.functions.values())
        yield Problem("", "", "", "", f"{target.name} runs no model-local functions, as {names}")


class Legality:
    """Legality of a model's nodes, as they are when it is made."""

    def __init__(self, model: ir.Model, target: Target) -> None:
        self._model = model
        self._target = target
        self.opset = target.opsets.nearest(opset_of(model) or 1)
        self.types = element_types.of_model(model)
        self._bodies: dict[FunctionCall, list[Problem]] = {}
        self._arguments = {value for f in model.functions.values() for value in f.inputs}

    def dtype_of(self, node: ir.Node, types: Types | None = None) -> ir.DataType | None:
        """The element type that ``node`` computes in: of its first input that is no integer.

        A condition, indices or quantised values come before the numbers in `Where`, `OneHot`
        and `DequantizeLinear`.
        """
        known = self.types if types is None else types
        given = [value for value in node.inputs if value is not None]
        kinds = [value.dtype or known.get(value) for value in given]
        if node.op_type == "Where":
            kinds = kinds[1:]
        return next((kind for kind in kinds if kind is None or kind in NAMES), (*kinds, None)[0])

    def refusal(self, node: ir.Node, kind: ir.DataType | None, types: Types | None = None) -> str:
        """Return why the target does not run ``node`` in ``kind``; empty if no reason is known.

        Args:
            node: A node of the model.
            kind: The element type to compute in; inputs of the node's own get it, too.
            types: The element types around it; those of the main graph by default.
        """
        verdict = self.verdict(node, kind, types)
        if verdict.state == "unknown" and self._is_better_written(identifier_of(node)):
            return self._not_known(node, kind)
        return self._refusal(node, kind, verdict) or self.disallowed(node, kind, types)

    def _refusal(self, node: ir.Node, kind: ir.DataType | None, verdict: Verdict) -> str:
        if verdict.state != "refused":
            return ""
        name = named(node)
        if not node.domain and since(node.op_type, self.opset) is None:
            return f"there is no {name} in opset {self.opset}"
        where = "" if identifier_of(node)[0] else f" at opset {self.opset}"
        why = f": {verdict.why}" if verdict.why else ""
        return f"{self._target.name} does not run {name}{where} in {_words(kind)}{why}"

    def disallowed(
        self, node: ir.Node, kind: ir.DataType | None, types: Types | None = None
    ) -> str:
        """Return why ONNX refuses ``node`` in ``kind`` at the target's opset; empty if allowed."""
        identifier = identifier_of(node)
        if identifier[0] or node.op_identifier() in self._model.functions:
            return ""
        around = self.types if types is None else types
        own = self.dtype_of(node, around)

        def asked(value: ir.Value) -> ir.DataType | None:
            known = value.dtype or around.get(value)
            return kind if known is not None and known == own else known

        wrong = disallowed(node, self.opset, asked)
        return "" if wrong is None else f"it takes no {TYPE_NAMES[wrong]} in opset {self.opset}"

    def verdict(
        self, node: ir.Node, kind: ir.DataType | None, types: Types | None = None
    ) -> Verdict:
        """Return the verdict of the target or its files on ``node`` in ``kind``."""
        identifier = identifier_of(node)
        if node.op_identifier() in self._model.functions:
            return RUNS  # its body is checked instead
        if not identifier[0] and since(node.op_type, self.opset) is None:
            return REFUSED
        if identifier[0] == DOMAIN:
            return REFUSED
        known = self.types if types is None else types
        asked = self._asked(node, kind, known)
        if self._target.live is not None and identifier[0] in PROBED_DOMAINS:
            own = self.dtype_of(node, known)

            def kind_of(value: ir.Value) -> str:
                return _kind_of(value, known, own, kind)

            alone = excerpts.model([node], kind_of, self._imports([node]))
            found = self._target.live.verdict(alone, node.op_type) if alone else UNKNOWN
            if found.state != "unknown":
                return found
        return self._target.verdict(asked)

    def _imports(self, nodes: Sequence[ir.Node]) -> dict[str, int]:
        domains = {"": None} | dict.fromkeys(identifier_of(node)[0] for node in nodes)
        return {domain: self._opset_of(domain) for domain in domains}

    def _opset_of(self, domain: str) -> int:
        return self._model.opset_imports.get(domain, 1) if domain else self.opset

    def _asked(self, node: ir.Node, kind: ir.DataType | None, types: Types) -> NodeQuery:
        own = self.dtype_of(node, types)
        stated = signatures.stated(node)
        computed = kind if kind is not None or not stated else ir.DataType[stated.upper()]
        inputs = ["" if v is None else _kind_of(v, types, own, kind) for v in node.inputs]
        identifier = identifier_of(node)
        return NodeQuery(
            identifier,
            self._opset_of(identifier[0]),
            None if computed is None else NAMES.get(computed) or computed.name.lower(),
            inputs,
            stated,
            _told(node),
            moves=not identifier[0] and node.op_type in MOVING,
        )

    def is_misfused(self, node: ir.Node, kind: ir.DataType | None) -> bool:
        """Return true if ``node`` ends ``x · σ(αx)`` in float64 and the target misfuses it."""
        return (
            kind == ir.DataType.DOUBLE
            and self._target.defect("float64-silu") is not None
            and gated_by_itself(node) is not None
        )

    def is_naive_sinc(self, node: ir.Node) -> bool:
        return (
            self._target.defect("naive-sinc") is not None and naive_sinc.operands(node) is not None
        )

    def relu_before(self, node: ir.Node, kind: ir.DataType | None) -> ir.Node | None:
        """Return the `Relu` whose result ``node`` clips, if the target fails to fuse the two."""
        has = self._target.defect("relu-clip") is not None
        return relu_clip.relu_before(node, kind, self._arguments) if has else None

    def defect(self, node: ir.Node, kind: ir.DataType | None) -> str:
        """Return the target's defect at ``node``; empty without one."""
        for name, holds in (
            ("float64-silu", self.is_misfused(node, kind)),
            ("naive-sinc", self.is_naive_sinc(node)),
            ("relu-clip", self.relu_before(node, kind) is not None),
        ):
            found = self._target.defect(name) if holds else None  # type: ignore[arg-type]
            if found is not None:
                return f"{self._target.name}: {found.says}"
        return ""

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the main graph, its bodies, and the functions that they call."""
        seen: set[FunctionCall] = set()
        for scope in scopes(self._model):
            if scope.name.startswith("function "):
                continue
            for node in scope.graph:
                yield from self._of_node(scope, node, self.types)
                call = self.call(node, self.types)
                if call is not None and call not in seen:
                    seen.add(call)
                    yield from self.of_body(call)

    def of_neighbours(self) -> Iterator[Problem]:
        """Yield nodes that the target refuses, alone or together with their producers."""
        live = self._target.live
        if live is None:
            return
        for scope in scopes(self._model):
            for node in () if scope.name.startswith("function ") else scope.graph:
                for depth in DEPTHS:
                    nodes = excerpts.ancestry(node, depth)
                    alone = excerpts.model(nodes, self._name_of, self._imports(nodes))
                    found = live.verdict(alone, node.op_type) if alone else UNKNOWN
                    if found.state == "refused" or INITIALIZATION in found.why:
                        yield self._together(scope, nodes, found.why)
                        break

    def _together(self, scope: Scope, nodes: Sequence[ir.Node], why: str) -> Problem:
        node, kind = nodes[-1], self.dtype_of(nodes[-1])
        names = ", then ".join(map(named, nodes))
        text = f"{self._target.name} does not run {names} in {_words(kind)}: {why}"
        return Problem(scope.name, _label(node), named(node), _words(kind), text)

    def _name_of(self, value: ir.Value) -> str:
        return _kind_of(value, self.types, None, None)

    def _of_node(self, scope: Scope, node: ir.Node, types: Types) -> Iterator[Problem]:
        kind = self.dtype_of(node, types)
        verdict = self.verdict(node, kind, types)
        why = self._refusal(node, kind, verdict) or self.disallowed(node, kind, types)
        why = why or self.defect(node, kind)
        name, dtype = named(node), "" if kind is None else _words(kind)
        if why:
            yield Problem(scope.name, _label(node), name, dtype, why)
        elif verdict.state == "unknown":
            why = self._not_known(node, kind)
            yield Problem(scope.name, _label(node), name, dtype, why, known=False)

    def _not_known(self, node: ir.Node, kind: ir.DataType | None) -> str:
        where = f" at opset {self.opset}" if not identifier_of(node)[0] else ""
        where += f" in {_words(kind)}" if kind is not None else ""
        return f"it is not known whether {self._target.name} runs {named(node)}{where}"

    def _is_better_written(self, identifier: tuple[str, str]) -> bool:
        """Return true for operators of unknown domains with a form in standard operators."""
        return (
            bool(identifier[0]) and identifier in LOWERINGS and not self._target.knows(identifier)
        )

    def call(self, node: ir.Node, types: Types) -> FunctionCall | None:
        if node.op_identifier() not in self._model.functions:
            return None
        return node.op_identifier(), tuple(
            None if value is None else value.dtype or types.get(value) for value in node.inputs
        )

    def of_body(self, call: FunctionCall) -> Sequence[Problem]:
        """Return the problems of a function for these element types, with its callees'."""
        if call not in self._bodies:
            self._bodies[call] = []  # what calls itself is not asked again
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


def named(node: ir.Node) -> str:
    """Return the operator, with its domain unless it is the standard one."""
    return "::".join(part for part in identifier_of(node) if part)


def _words(kind: ir.DataType | None) -> str:
    return "any element type" if kind is None else NAMES.get(kind) or kind.name.lower()


def _kind_of(
    value: ir.Value, types: Types, own: ir.DataType | None, kind: ir.DataType | None
) -> str:
    """Return ONNX's name of an input's element type, or of ``kind`` if it is the node's own."""
    known = value.dtype or types.get(value)
    if known is None:
        return "?"
    return (kind if kind is not None and known == own else known).name.lower()


def _label(node: ir.Node) -> str:
    return node.name or (node.outputs[0].name if node.outputs else None) or ""


def _told(node: ir.Node) -> dict[str, float | str | None]:
    """Return the attributes; None stands for one that the caller of the function gives."""
    return {**attributes_of(node), **{a.name: None for a in node.attributes.values() if a.is_ref()}}


def gated_by_itself(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """``(x, σ(u))`` where ``node`` is their product, and ``u`` is ``x`` or made of it at once."""
    if identifier_of(node) != ("", "Mul"):
        return None
    left, right = node.inputs
    for x, gate in ((left, right), (right, left)):
        maker = gate.producer() if gate is not None else None
        if x is not None and gate is not None and maker is not None and maker.op_type == "Sigmoid":
            argument = maker.inputs[0]
            scaling = argument.producer() if argument is not None else None
            if argument is x or (scaling is not None and x in scaling.inputs):
                return x, gate
    return None
