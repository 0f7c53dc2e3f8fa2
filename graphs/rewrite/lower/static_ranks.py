"""Forms with static ranks, which some targets need: conditions, Squeeze, and branches of If.

tract and OpenVINO do not load some models with open ranks or sizes; their files name the defects
and the evidence.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import onnx_ir as ir

from gatewave.graphs.analysis.element_types import values
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.analysis.shapes import Shapes, shapes
from gatewave.graphs.rewrite.editing.drawing import Drawing
from gatewave.graphs.rewrite.editing.editor import Editor
from gatewave.graphs.rewrite.editing.names import Names, rename_shadows
from gatewave.graphs.rewrite.lower.legality import Legality
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.targets import Target
from gatewave.graphs.targets.entries import DefectName

AXES_ARE_INPUTS = 13
"""First opset at which `Squeeze` takes its axes as an input."""

RESHAPE_TAKES_INPUTS = 5
"""First opset at which `Reshape` takes its shape as an input."""


DEFECTS: tuple[DefectName, ...] = (
    "condition-rank",
    "condition-size",
    "squeeze-rank",
    "branch-ranks",
)


def make_ranks_static(model: ir.Model, target: Target, _: Legality) -> list[Change]:
    """Write conditions as scalars, squeezed axes as numbers, and the branch that is always taken.

    Changes are made only if the target is known to need them, and if the known shapes guarantee the
    same result.
    """
    wanted = {name for name in DEFECTS if target.defect(name) is not None}
    if not wanted:
        return []
    changes = []
    if "branch-ranks" in wanted:
        while (inlined := _RankRepair(model, wanted).inline()) is not None:
            changes.append(inlined)
    return [*changes, *_RankRepair(model, wanted).run()]


class _RankRepair:
    """One walk over the main graph and its bodies."""

    def __init__(self, model: ir.Model, wanted: Collection[DefectName]) -> None:
        self._model = model
        self._wanted = wanted
        self._editor = Editor(model)
        self._originals = set(values(model.graph))

    @functools.cached_property
    def _known(self) -> Shapes:
        return shapes(self._model)

    def run(self) -> Iterator[Change]:
        for scope, node in self._nodes():
            if node.op_type == "Squeeze" and "squeeze-rank" in self._wanted:
                yield from self._squeeze(scope, node)
            if node.op_type == "If" and not self._fits(node.inputs[0]):
                yield self._condition(scope, node)

    def inline(self) -> Change | None:
        """Replace the first If whose branch is always the same by that branch."""
        for scope, node in self._nodes():
            taken = self._always(node) if node.op_type == "If" else None
            if taken is not None:
                return self._inlined(scope, node, taken)
        return None

    def _nodes(self) -> Iterator[tuple[Scope, ir.Node]]:
        for scope in list(scopes(self._model)):
            if not scope.in_function and scope.opset >= RESHAPE_TAKES_INPUTS:
                yield from ((scope, node) for node in list(scope.graph) if not node.domain)

    def _fits(self, condition: ir.Value | None) -> bool:
        """Return true if the target takes a condition of that shape."""
        shape = None if condition is None else self._known.shape(condition)
        if "condition-rank" in self._wanted and (shape is None or len(shape) > 1):
            return False
        return "condition-size" not in self._wanted or (
            shape is not None and all(isinstance(size, int) for size in shape)
        )

    def _condition(self, scope: Scope, node: ir.Node) -> Change:
        """Reshape the condition, which has one element in any shape, to a scalar."""
        condition = node.inputs[0]
        shape = None if condition is None else self._known.shape(condition)
        op = self._editor.drawing(node, scope)
        if shape is not None and all(isinstance(size, int) for size in shape):
            scalar = op.node("Reshape", [condition, op.tensor([])])
        else:  # tract 0.23 takes no Reshape of an open size to a scalar
            first, one = op.tensor([-1]), op.tensor(0)
            scalar = op.node("Gather", [op.node("Reshape", [condition, first]), one], axis=0)
        self._editor.insert(op, node)
        node.replace_input_with(0, scalar)
        return _change(scope, node, "If of a condition that is a scalar")

    def _squeeze(self, scope: Scope, node: ir.Node) -> Iterator[Change]:
        x, *axes = node.inputs
        given = any(value is not None for value in axes) or "axes" in node.attributes
        before = None if x is None else self._known.shape(x)
        if given and before is not None:
            return
        if before is not None and all(isinstance(size, int) for size in before):
            ones = [axis for axis, size in enumerate(before) if size == 1]
            yield self._with_axes(scope, node, ones)
        elif (sizes := self._sizes(node.outputs[0])) is not None:
            op = self._editor.drawing(node, scope)
            result = op.node("Reshape", [x, op.tensor(sizes)])
            yield self._replaced(scope, node, op, result, f"{node.op_type} → Reshape")

    def _with_axes(self, scope: Scope, node: ir.Node, axes: Sequence[int]) -> Change:
        op = self._editor.drawing(node, scope)
        if not axes:
            result = op.node("Identity", node.inputs[:1])
            return self._replaced(scope, node, op, result, "Identity: no axis is 1")
        if scope.opset < AXES_ARE_INPUTS:
            node.attributes.add(ir.AttrInt64s("axes", axes))
            return _change(scope, node, "Squeeze with its axes")
        result = op.node("Squeeze", [node.inputs[0], op.tensor(axes)])
        return self._replaced(scope, node, op, result, "Squeeze with its axes")

    def _sizes(self, value: ir.Value) -> list[int] | None:
        """Return the shape for `Reshape`, if at most one size is open."""
        shape = self._known.shape(value)
        if shape is None:
            return None
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        return sizes if sizes.count(-1) <= 1 and 0 not in sizes else None

    def _always(self, node: ir.Node) -> ir.Graph | None:
        """Return the branch that every run takes, if the two may differ in rank."""
        ranks = [
            [self._known.shape(value) for value in node.attributes[name].as_graph().outputs]
            for name in ("then_branch", "else_branch")
        ]
        if all(
            one is not None and other is not None and len(one) == len(other)
            for one, other in zip(*ranks, strict=True)
        ):
            return None
        truth = _truth(node.inputs[0], self._known)
        if truth is None:
            return None
        return node.attributes["then_branch" if truth else "else_branch"].as_graph()

    def _inlined(self, scope: Scope, node: ir.Node, branch: ir.Graph) -> Change:
        change = _change(scope, node, "If of a condition that is always the same: its branch")
        inner, inputs = list(branch), list(node.inputs)
        results = list(branch.outputs)
        for value in list(branch.initializers.values()):
            _give_initializer(branch, self._model.graph, value, self._editor.names)
        branch.outputs.clear()
        branch.remove(inner)
        op = self._editor.drawing(node, scope)
        pairs: list[tuple[ir.Value, ir.Value]] = []
        for old, new in zip(node.outputs, results, strict=True):
            if new.producer() not in inner or new in [value for _, value in pairs]:
                # A result of the branch that is computed outside, or that is given twice.
                pairs.append((old, op.copy_of(new)))
            else:
                pairs.append((old, new))
        self._editor.replace(node, [*inner, *op.nodes], pairs)
        self._editor.sweep(inputs)
        rename_shadows(self._model, self._originals)
        return change

    def _replaced(
        self, scope: Scope, node: ir.Node, op: Drawing, result: ir.Value, what: str
    ) -> Change:
        change = _change(scope, node, what)
        self._known.inferred[result] = self._known.inferred.get(node.outputs[0], (None, None))
        self._editor.replace(node, op.nodes, [(node.outputs[0], result)])
        return change


def _change(scope: Scope, node: ir.Node, what: str) -> Change:
    output = node.outputs[0].name or ""
    return Change(scope.name, node.name or output, what, node.op_type.lower(), output)


def _give_initializer(branch: ir.Graph, graph: ir.Graph, value: ir.Value, names: Names) -> None:
    """Move an initializer of a body to the model's graph, renamed if its name is taken there."""
    branch.initializers.pop(value.name or "")
    if value.name in graph.initializers:
        value.name = names.free(f"{value.name}_1")
    graph.register_initializer(value)


def _truth(value: ir.Value | None, known: Shapes, depth: int = 8) -> bool | None:
    """Return the constant value of a condition; None if it depends on the model's inputs."""
    if value is None or depth == 0 or value.is_graph_input():
        return None
    # An initializer that is an input of the model may be changed by the caller: see above.
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None and tensor.size == 1:
        return bool(tensor.numpy().reshape(-1)[0])
    node = value.producer()
    if node is None or node.domain or not node.inputs:
        return None
    if node.op_type in COMPARISONS:
        return _compared(node, known)
    inner = _truth(node.inputs[0], known, depth - 1) if node.op_type in KEEPING else None
    return inner if inner is None or node.op_type != "Not" else not inner


def _compared(node: ir.Node, known: Shapes) -> bool | None:
    sides = [known.integers(operand) for operand in node.inputs]
    if any(side is None or len(side) != 1 for side in sides):
        return None
    left, right = (side[0] for side in sides if side is not None)
    return COMPARISONS[node.op_type](left, right)


KEEPING = frozenset({"Cast", "Identity", "Not", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that keep or negate a single truth value."""

COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "GreaterOrEqual": lambda a, b: a >= b,
    "Less": lambda a, b: a < b,
    "LessOrEqual": lambda a, b: a <= b,
}
