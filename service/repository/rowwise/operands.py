"""Operands, attributes and operator version of a node, as its rule uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewave.service.onnx.proto import AttributeProto
from gatewave.service.repository.rowwise.values import Dims, Element, Fresh, NotShown, Value, whole

NO_ATTRIBUTE = AttributeProto()


@dataclass(frozen=True, slots=True)
class Operands:
    """Operands and attributes of one node.

    Attributes:
        values: The inputs in their order; None for an omitted input.
        outputs: The number of outputs.
        opset: The version of the operator set of the node's domain.
        fresh: Source of symbols for unknown sizes.
    """

    operator: str
    values: Sequence[Value | None]
    outputs: int
    attributes: Mapping[str, AttributeProto]
    opset: int
    fresh: Fresh

    def has(self, index: int) -> bool:
        """Return whether the node has this input."""
        return index < len(self.values) and self.values[index] is not None

    def raw(self, index: int) -> Value:
        """Return an operand that may hold the number of rows."""
        value = self.values[index] if index < len(self.values) else None
        if value is None:
            raise NotShown(f"lacks its input {index + 1}")
        return value

    def value(self, index: int = 0) -> Value:
        """Return an operand of a computation.

        Raises:
            NotShown: It is computed from the number of rows.
        """
        value = self.raw(index)
        if value.is_sized:
            raise NotShown("computes with the number of rows")
        return value

    def all(self) -> list[Value]:
        """Return all operands of a computation."""
        return [self.value(i) for i in range(len(self.values)) if self.has(i)]

    def dims(self, index: int = 0) -> Dims:
        """Return the sizes of an operand.

        Raises:
            NotShown: Its rank is unknown.
        """
        dims = self.value(index).dims
        if dims is None:
            raise NotShown("has an input of unknown rank")
        return dims

    def fixed(self, *indices: int) -> None:
        """Check that the given operands are the same for all rows.

        Raises:
            NotShown: One of them differs between rows.
        """
        for index in indices:
            if self.has(index) and self.value(index).is_batched:
                raise NotShown("takes a parameter from the rows")

    def plain(self, *indices: int) -> None:
        """Check that the given operands are single numbers for the whole tensor.

        Raises:
            NotShown: One is not a single number, or differs between rows.
        """
        self.fixed(*indices)
        for index in indices:
            dims = self.value(index).dims if self.has(index) else ()
            if dims is None or len(dims) > 1 or any(size.number != 1 for size in dims):
                raise NotShown("has a parameter that may belong to an axis")

    def elements(self, index: int) -> tuple[Element, ...] | None:
        """Return the numbers of a small operand; the number of rows may be among them."""
        return self.raw(index).small if self.has(index) else None

    def integers(self, index: int) -> tuple[int, ...] | None:
        """Return the whole numbers of a constant operand, if all are known."""
        numbers = [whole(element) for element in self.elements(index) or ()]
        known = tuple(number for number in numbers if number is not None)
        return known if self.elements(index) is not None and len(known) == len(numbers) else None

    def listed(self, name: str, index: int, since: int) -> tuple[int, ...] | None:
        """Return whole numbers: an attribute before version ``since``, and an input from then on.

        Raises:
            NotShown: They are computed.
        """
        if self.opset < since:
            return self.attributes[name].integers if name in self.attributes else None
        if not self.has(index):
            return None
        found = self.integers(index)
        if found is None:
            raise NotShown(f"computes its {name}")
        return found

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return self.attributes[name].integer if name in self.attributes else default

    def text(self, name: str, default: str = "") -> str:
        """Return a string attribute."""
        return self.attributes.get(name, NO_ATTRIBUTE).text or default

    def list(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute of several integers; None if the node does not have it."""
        return self.attributes[name].integers if name in self.attributes else None


Outcome = Value | NotShown
Rule = Callable[[Operands], Sequence[Outcome]]


def from_start(axis: int, rank: int) -> int:
    """Return an axis counted from the first.

    Raises:
        NotShown: There is no such axis.
    """
    counted = axis + rank if axis < 0 else axis
    if not 0 <= counted < rank:
        raise NotShown(f"names axis {axis} of {rank}")
    return counted


def apart(value: Value, *axes: int, why: str = "joins the rows") -> None:
    """Check that the batch axis is not one of ``axes``.

    Raises:
        NotShown: It is one of them.
    """
    if value.axis in axes:
        raise NotShown(why)
