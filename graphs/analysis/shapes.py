"""Types and shapes of a model's values, inferred without changing the model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from gatewave.graphs.analysis import infer
from gatewave.graphs.analysis.integers import IntegerMemo, integers
from gatewave.graphs.analysis.ranks import Ranks
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.analysis.thresholds import MAX_SHAPE_DEPTH

Known = tuple[ir.DataType | None, ir.Shape | None]


@dataclass(frozen=True, eq=False)
class Shapes:
    """Types and shapes as the model states them, or else as ONNX infers them."""

    inferred: dict[ir.Value, Known]
    _integers: IntegerMemo = field(default_factory=dict)
    _ranks: Ranks | None = None

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        if value.dtype is not None:
            return value.dtype
        return self.inferred.get(value, (None, None))[0]

    def shape(self, value: ir.Value) -> ir.Shape | None:
        """The inferred one where it says more: a stated one may leave dimensions open."""
        inferred = self.inferred.get(value, (None, None))[1]
        stated = value.shape
        better = stated is None or (inferred is not None and _open(inferred) < _open(stated))
        told = inferred if better else stated
        return told if told is None else self._sliced(value, told)

    def least_rank(self, value: ir.Value) -> int:
        """The number of axes that ``value`` has at least: all of them, if its shape is known."""
        if self._ranks is not None:
            return self._ranks.least(value)
        shape = self.shape(value)
        return 0 if shape is None else len(shape)

    def integers(self, value: ir.Value | None) -> list[int] | None:
        """The integers that ``value`` holds in every run, in a row; None if they are not known."""
        found = integers(value, self.shape, self._integers)
        return None if found is None else [int(number) for number in found.reshape(-1)]

    def _sliced(self, value: ir.Value, told: ir.Shape) -> ir.Shape:
        """Return ``told``, or the shape after a `Slice` that inference does not follow."""
        node = value.producer()
        if node is None or (node.domain, node.op_type) != ("", "Slice") or not node.inputs:
            return told
        if all(isinstance(size, int) for size in told):
            return told
        source = None if node.inputs[0] is None else self.shape(node.inputs[0])
        axis = sliced(node, self)
        if source is None or axis is None or axis.size is None or len(source) != len(told):
            return told
        sizes = [*source]
        sizes[axis.number] = len(range(*slice(axis.begin, axis.end, axis.step).indices(axis.size)))
        return ir.Shape(sizes)

    def differ(self, one: ir.Value, other: ir.Value) -> bool:
        """Return true if the two are known to have different shapes."""
        left, right = self.shape(one), self.shape(other)
        if left is None or right is None:
            return False
        if len(left) != len(right):
            return True
        return any(
            isinstance(a, int) and isinstance(b, int) and a != b
            for a, b in zip(left, right, strict=True)
        )

    def equal(self, one: ir.Value, other: ir.Value) -> bool:
        """Return true if both are known to have one shape, by dimensions or by construction."""
        left, right = self.shape(one), self.shape(other)
        # Equal names are equal sizes, but an unnamed dimension is not even equal to itself.
        if left is not None and right is not None and _open(left) == 0 and left == right:
            return True
        return not self.differ(one, other) and self._making(one) == self._making(other)

    def _making(self, value: ir.Value, depth: int = MAX_SHAPE_DEPTH) -> object:
        """Return a key of the shape of ``value``: values with equal keys have equal shapes.

        Two projections of one tensor by weights of one shape, say, or the halves of one `Split`.
        """
        node = value.producer()
        if (
            node is None
            or depth == 0
            or node.domain != ""
            or not node.inputs
            or None in node.inputs
        ):
            return value
        if node.op_type == "Split" and self.splits_evenly(node):
            return ("Split", node)
        return self._following(value, node, depth) if value.index() == 0 else value

    def _following(self, value: ir.Value, node: ir.Node, depth: int) -> object:
        first, *others = (given for given in node.inputs if given is not None)
        if node.op_type in _SHAPE_KEEPING:
            return self._making(first, depth - 1)
        if node.op_type in {"Add", "Mul", "Sub"} and len(others) == 1:
            return self._broadcast(value, node, depth)
        weight = self.shape(others[0]) if others else None
        if node.op_type in {"MatMul", "Gemm", "Conv"} and weight is not None and not _open(weight):
            made = self._making(first, depth - 1)
            return (node.op_type, made, tuple(weight), _attributes(node))
        return value

    def _broadcast(self, value: ir.Value, node: ir.Node, depth: int) -> object:
        """A bias of one axis does not widen its operand, unless that has size 1 there."""
        for tensor, bias in itertools.permutations(node.inputs):
            if tensor is None or bias is None or not bias.is_initializer():
                continue
            wide, narrow = self.shape(tensor), self.shape(bias)
            if wide is None or narrow is None or len(narrow) > len(wide):
                continue
            if tuple(wide)[len(wide) - len(narrow) :] == tuple(narrow) and _open(narrow) == 0:
                return self._making(tensor, depth - 1)
        return value

    def splits_evenly(self, node: ir.Node) -> bool:
        """Return true if the parts of a `Split` are known to be equal."""
        first, *rest = node.outputs
        return (
            all(not self.differ(first, other) for other in rest)
            and (
                "num_outputs" not in node.attributes or len(node.outputs) == 2  # noqa: PLR2004
            )
            and self._halves(node)
        )

    def _halves(self, node: ir.Node) -> bool:
        """Return true if the parts are equal, by their sizes or because no sizes are given."""
        sizes = node.attributes.get("split")
        if sizes is not None:
            return len(set(sizes.as_ints())) == 1
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            return len(set(self.integers(node.inputs[1]) or ())) == 1
        source = None if node.inputs[0] is None else self.shape(node.inputs[0])
        if "num_outputs" not in node.attributes:
            return True
        # From opset 18, the last part of an odd size is smaller.
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        if source is None or not -len(source) <= axis < len(source):
            return False
        size = source[axis]
        return isinstance(size, int) and size % len(node.outputs) == 0


@dataclass(frozen=True, slots=True)
class SlicedAxis:
    """Range that a `Slice` takes of one axis.

    Attributes:
        number: The axis; negative if it is counted from the end, as the rank is not known.
        size: Size of the axis, if known.
        begin: First index; a negative one counts from the end, as in Python.
        end: Likewise.
        step: Distance between taken elements.
    """

    number: int
    size: int | None
    begin: int
    end: int
    step: int


def sliced(node: ir.Node, known: Shapes) -> SlicedAxis | None:
    """Return the range of a `Slice` of one axis, if known; before opset 10 it has attributes."""
    if "starts" in node.attributes:
        given = [_ints(node, name) for name in ("starts", "ends", "axes")]
    else:
        values = [*node.inputs[1:5], *[None] * 4]
        given = [known.integers(value) for value in values[:4]]
        if any(v is not None and g is None for v, g in zip(values[:4], given, strict=True)):
            return None
    starts, ends, axes, steps = (*given, None)[:4]
    if starts is None or ends is None or not len(starts) == len(ends) == 1:
        return None
    (number,), (step,) = axes or [0], steps or [1]
    source = node.inputs[0]
    shape = None if source is None else known.shape(source)
    size = None
    if shape is not None and -len(shape) <= number < len(shape):
        number %= len(shape)
        size = shape[number]
    # A negative step reverses the axis, which no layout of a gated unit has.
    whole = size if isinstance(size, int) else None
    return SlicedAxis(number, whole, starts[0], ends[0], step) if step > 0 else None


def _ints(node: ir.Node, name: str) -> list[int] | None:
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref() or attribute.type != ir.AttributeType.INTS:
        return None
    return [*attribute.as_ints()]


_SHAPE_KEEPING = {
    "Identity", "Cast", "Neg", "Sigmoid", "Tanh", "Relu", "Erf", "Exp", "LayerNormalization",
    "Softmax", "Gelu", "Swish", "Dropout", "BatchNormalization",
}  # fmt: skip


def _attributes(node: ir.Node) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, str(a.value)) for name, a in node.attributes.items()))


def _open(shape: ir.Shape) -> int:
    """Return the number of dimensions that are neither a number nor a name."""
    return sum(not isinstance(d, int) and d.value is None for d in shape)


def shapes(model: ir.Model) -> Shapes:
    """All that inference finds out, in functions too; ``model`` stays as it is."""
    # On a copy: a rewrite must not add shapes to the caller's model, which states none.
    twin = model.clone()
    infer.inferred(twin)
    pairs = zip(_values(model), _values(twin), strict=True)
    known = Shapes({value: (told.dtype, told.shape) for value, told in pairs})
    ranks = Ranks(known.shape, known.integers)
    ranks.bound(scopes(model))
    return replace(known, _ranks=ranks)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    return itertools.chain.from_iterable(scope.values() for scope in scopes(model))
