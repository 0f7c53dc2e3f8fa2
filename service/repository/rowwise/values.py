"""Abstract values of the analysis: shapes as products of sizes, one of which is the batch's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gatewave.service.onnx.proto import MAX_ELEMENTS, TensorProto

ROWS = "rows"
"""Symbol of the number of rows in a batch."""
MAX_ROWS = 1 << 20
"""Upper bound of the rows of a batch: config.yaml allows up to 65,536."""
MAX_END = (1 << 31) - 1
"""Least number by which exporters mean the end of any axis."""
LARGEST_SIZE = 1 << 63
MAX_SYMBOLS = 64


class NotShown(Exception):  # noqa: N818 - it is a finding, and no error
    """The rows are not shown to be independent; the text describes the operator's effect."""


class Size(NamedTuple):
    """Size of an axis: ``factor`` times the product of ``symbols``, which are sorted.

    An axis may consist of several merged axes, including the batch axis. ``before`` is the product
    of those that stood before the batch's: a row is not a contiguous part of the axis then.
    """

    factor: int
    symbols: tuple[str, ...] = ()
    before: tuple[int, tuple[str, ...]] = (1, ())

    @property
    def has_rows(self) -> bool:
        """Return whether an element is computed from the number of rows."""
        return ROWS in self.symbols

    @property
    def number(self) -> int | None:
        return None if self.symbols else self.factor

    @property
    def plain(self) -> Size:
        """The size as a number, wherever the rows lie."""
        return Size(self.factor, self.symbols)

    def times(self, other: Size) -> Size:
        """Return the product as a number.

        Raises:
            NotShown: It has more factors than shapes have.
        """
        factor, symbols = self.factor * other.factor, self.symbols + other.symbols
        if abs(factor) > LARGEST_SIZE or len(symbols) > MAX_SYMBOLS:
            raise NotShown("computes with a size beyond any tensor's")
        return Size(factor, tuple(sorted(symbols)))

    def over(self, other: Size) -> Size | None:
        """Return the exact quotient as a number, or None if there is none."""
        left = list(self.symbols)
        for symbol in other.symbols:
            if symbol not in left:
                return None
            left.remove(symbol)
        if not other.factor or self.factor % other.factor:
            return None
        return Size(self.factor // other.factor, tuple(left))


ONE = Size(1)
BATCH = Size(1, (ROWS,))

Element = Size | float | None
"""Number in a small tensor; None if it is unknown, and then the same for all rows."""
Dims = tuple[Size, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """Tensor of the graph, as far as it is known.

    If a size in ``dims`` has the symbol `ROWS`, the tensor is *batched* at that axis: the part that
    belongs to a row is a function of that row of the inputs only. Otherwise the tensor is the same
    for every batch; except that ``elements`` may have the symbol too: such a tensor is *sized*.

    Attributes:
        dims: The size of each axis; None where the rank is unknown.
        elements: The numbers of a scalar or a short vector, as far as they are known.
    """

    dims: Dims | None = None
    elements: tuple[Element, ...] | None = None

    @property
    def axis(self) -> int | None:
        """The axis of the batch, if there is one."""
        return next((i for i, size in enumerate(self.dims or ()) if size.has_rows), None)

    @property
    def is_batched(self) -> bool:
        return self.axis is not None

    @property
    def is_sized(self) -> bool:
        return any(has_rows(element) for element in self.elements or ())

    @property
    def small(self) -> tuple[Element, ...] | None:
        """The elements of a scalar or a short vector, unknown ones among them."""
        if self.elements is not None:
            return self.elements
        if self.dims is None or len(self.dims) > 1 or self.is_batched:
            return None
        count = product(self.dims).number
        return (None,) * count if count is not None and count <= MAX_ELEMENTS else None


def has_rows(element: Element) -> bool:
    return isinstance(element, Size) and element.has_rows


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of sizes as a number."""
    result = ONE
    for size in sizes:
        result = result.times(size)
    return result


def sizes_of(shape: Iterable[int]) -> Dims:
    """Return the sizes of a shape without symbols."""
    return tuple(Size(number) for number in shape)


def constant(tensor: TensorProto) -> Value:
    """Return the value of a tensor of the file, with the elements of a scalar or a short vector."""
    if tensor.shape is None:
        return Value()
    dims = sizes_of(tensor.shape)
    if tensor.elements is None or len(dims) > 1:
        return Value(dims)
    return Value(dims, tuple(n if isinstance(n, float) else Size(n) for n in tensor.elements))


def vector(elements: Sequence[Element]) -> Value:
    """Return a vector of known elements; of a long one the elements are not kept."""
    kept = tuple(elements) if len(elements) <= MAX_ELEMENTS else None
    if kept is None and any(map(has_rows, elements)):
        raise NotShown("computes with the number of rows")
    return Value((Size(len(elements)),), kept)


def scalar(element: Element) -> Value:
    """Return a scalar with a known or unknown element."""
    return Value((), (element,))


def whole(element: Element) -> int | None:
    """Return an element that is a known whole number."""
    return element.number if isinstance(element, Size) else None


def checked(dims: Dims) -> Dims:
    """Return ``dims`` if at most one axis is a batch axis.

    Raises:
        NotShown: There are several: the operator combines each row with each.
    """
    if sum(size.symbols.count(ROWS) for size in dims) > 1:
        raise NotShown("combines rows with each other")
    return dims


def broadcast(shapes: Sequence[Dims], fresh: Fresh) -> Dims:
    """Return the shape of an element-by-element result.

    Raises:
        NotShown: The axis of the batch meets another that is not 1.
    """
    rank = max(map(len, shapes), default=0)
    padded = [(ONE,) * (rank - len(shape)) + shape for shape in shapes]
    return checked(tuple(_joined(column, fresh) for column in zip(*padded, strict=True)))


def _joined(column: Sequence[Size], fresh: Fresh) -> Size:
    """Return the size of one axis after broadcasting."""
    sizes = set(column) - {ONE}
    if len(sizes) < 2:  # noqa: PLR2004 - all the same
        return next(iter(sizes), ONE)
    if any(size.has_rows for size in sizes):
        raise NotShown("broadcasts a size along the rows that may differ from their number")
    # The axis with another size than 1 decides; a symbolic size may be 1.
    numbers = [size for size in sizes if size.number is not None]
    return numbers[0] if numbers else fresh()


class Fresh:
    """Source of symbols for unknown sizes that are the same for all rows."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self) -> Size:
        self._count += 1
        return Size(1, (f"?{self._count}",))


def is_beyond(end: Element, size: Size) -> bool:
    """Return whether the end of a slice is beyond any axis of size ``size``."""
    number = whole(end)
    if number is None:
        return False
    # Apart from the number of rows, a symbol may stand for any size.
    most = size.factor * MAX_ROWS if size.symbols == (ROWS,) else MAX_END
    return number >= (size.factor if size.number is not None else most)
