"""Rules of operators that compute shapes, or change the shape of a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatewave.service.onnx.proto import MAX_ELEMENTS
from gatewave.service.repository.rowwise.operands import Operands, Outcome, Rule, from_start
from gatewave.service.repository.rowwise.values import (
    ONE,
    Dims,
    Element,
    NotShown,
    Size,
    Value,
    broadcast,
    checked,
    constant,
    product,
    scalar,
    vector,
)

MERGES = "gives the rows a shape in which they are not shown to stay apart"
COPY, REST = Size(0), Size(-1)
"""Special sizes in the target shape of Reshape: unchanged, and inferred."""
LIST_SINCE = 13
"""First opset in which Squeeze and Unsqueeze take their axes as an input."""


def shape(node: Operands) -> Sequence[Outcome]:
    """Shape of a tensor, as a vector of sizes; the number of rows may be among them."""
    dims = node.raw(0).dims
    if dims is None:
        raise NotShown("has an input of unknown rank")
    start, end = node.integer("start", 0), node.integer("end", len(dims))
    return [vector([size.plain for size in dims[start:end]])]


def size(node: Operands) -> Sequence[Outcome]:
    """Number of elements of a tensor."""
    return [scalar(product(node.dims()))]


def constant_of_shape(node: Operands) -> Sequence[Outcome]:
    """Constant of a given shape."""
    elements = node.elements(0)
    if elements is None:
        raise NotShown("has a shape that is computed")
    dims = checked(tuple(_size(element, node) for element in elements))
    given = node.attributes["value"].tensor if "value" in node.attributes else None
    numbers = constant(given).small if given is not None else None
    value = numbers[0] if numbers else None
    count = dims[0].number if len(dims) == 1 else None
    if value is None or count is None or count > MAX_ELEMENTS:
        return [Value(dims)]
    return [vector((value,) * count)]


def _size(element: Element, node: Operands) -> Size:
    """Return an element of a shape as a size; a new symbol if it is unknown."""
    return element if isinstance(element, Size) and element.factor >= 0 else node.fresh()


def ranged(node: Operands) -> Sequence[Outcome]:
    """Vector of unknown length that is the same for all rows."""
    if any(value.is_batched for value in node.all()):
        raise NotShown("has a length that depends on a row")
    return [Value((node.fresh(),))]


def reshape(node: Operands) -> Sequence[Outcome]:
    """Reshape, which may merge the batch axis with others or split it again."""
    given: Sequence[Element] | None = node.elements(1)
    if "shape" in node.attributes:
        given = tuple(Size(number) for number in node.attributes["shape"].integers)
    if given is None:
        raise NotShown("has a shape that is computed")
    value = node.raw(0)
    if value.elements is not None and len(given) == 1:
        return [Value((Size(len(value.elements)),), value.elements)]
    dims = node.dims()
    keeps = not node.integer("allowzero", 0)
    target = [dims[i] if e == COPY and keeps and i < len(dims) else e for i, e in enumerate(given)]
    return [Value(_reshaped(dims, target, node))]


def flatten(node: Operands) -> Sequence[Outcome]:
    dims = node.dims()
    axis = node.integer("axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [Value(_reshaped(dims, [product(dims[:axis]), product(dims[axis:])], node))]


def _reshaped(dims: Dims, given: Sequence[Element], node: Operands) -> Dims:
    """Return the shape after a row-major reshape from ``dims`` to the sizes ``given``.

    Let the sizes of the axes before the batch multiply to p. A row is then p parts of the tensor,
    at equal distances. It stays that where the sizes before the batch multiply to p again, those
    counted that are merged into its own axis.
    """
    target = [element.plain if isinstance(element, Size) else None for element in given]
    if REST in target:
        target[target.index(REST)] = _rest(dims, target)
    result = [node.fresh() if size is None or size.factor < 0 else size for size in target]
    batch = next((i for i, size in enumerate(dims) if size.has_rows), None)
    at = next((i for i, size in enumerate(target) if size is not None and size.has_rows), None)
    if batch is None and at is None:
        return tuple(result)
    if batch is None or at is None:
        raise NotShown(MERGES)
    result[at] = _placed(dims, batch, result, at)
    return checked(tuple(result))


def _placed(dims: Dims, batch: int, result: Sequence[Size], at: int) -> Size:
    """Return the axis ``at`` of a result, as the one into which the axis ``batch`` has turned."""
    merged = Size(*dims[batch].before)
    row = dims[batch].over(merged)
    # The number of elements is unchanged. If as many follow the start of a row, as many precede it.
    if row is not None and product((row, *dims[batch + 1 :])) == product(result[at:]):
        return result[at]
    before = product(dims[:batch]).times(merged).over(product(result[:at]))
    if before is None or result[at].over(before) is None:
        raise NotShown(MERGES)
    return Size(result[at].factor, result[at].symbols, (before.factor, before.symbols))


def _rest(dims: Dims, target: Sequence[Size | None]) -> Size | None:
    """Return the size that Reshape infers, if all other sizes are known."""
    others = [size for size in target if size != REST]
    known = [size for size in others if size is not None]
    return product(dims).over(product(known)) if len(known) == len(others) else None


def expand(node: Operands) -> Sequence[Outcome]:
    """Broadcast to a given shape."""
    sizes = node.elements(1)
    if sizes is None:
        raise NotShown("has a shape that is computed")
    target = tuple(_size(element, node) for element in sizes)
    value = node.raw(0)
    dims = broadcast([node.dims(), target], node.fresh)
    if value.elements is not None and len(dims) == 1 and dims[0].number == len(value.elements):
        return [value]
    return [Value(dims)]


def tile(node: Operands) -> Sequence[Outcome]:
    """Repetition along axes; not along the batch axis, which would repeat rows."""
    dims, repeats = node.dims(), node.elements(1)
    if repeats is None or len(repeats) != len(dims):
        raise NotShown("has repetitions that are computed")
    tiled = []
    for axis, (size, times) in enumerate(zip(dims, repeats, strict=True)):
        batched = size.has_rows or (isinstance(times, Size) and times.has_rows)
        if batched and ONE not in {size, times}:
            raise NotShown(f"repeats axis {axis} along the rows")
        if times == ONE:
            tiled.append(size)
        else:
            tiled.append(size.times(times) if isinstance(times, Size) else node.fresh())
    return [Value(checked(tuple(tiled)))]


def squeeze(node: Operands) -> Sequence[Outcome]:
    """Removal of axes of size 1."""
    axes = node.listed("axes", 1, LIST_SINCE)
    value = node.raw(0)
    if value.elements is not None and len(value.elements) == 1:
        return [scalar(value.elements[0])]
    dims = node.dims()
    if axes is None:
        if value.is_batched or any(size.symbols for size in dims):
            raise NotShown("removes all axes of size 1, which may be that of the rows")
        return [Value(tuple(size for size in dims if size != ONE))]
    removed = {from_start(axis, len(dims)) for axis in axes}
    if value.axis in removed:
        raise NotShown("removes the axis of the rows")
    return [Value(tuple(size for axis, size in enumerate(dims) if axis not in removed))]


def unsqueeze(node: Operands) -> Sequence[Outcome]:
    """Insertion of axes of size 1."""
    axes = node.listed("axes", 1, LIST_SINCE)
    value = node.raw(0)
    if axes is None:
        raise NotShown("names no axes")
    if value.elements is not None and value.dims == () and len(axes) == 1:
        return [vector(value.elements)]
    dims = list(node.dims())
    rank = len(dims) + len(axes)
    for axis in sorted(from_start(axis, rank) for axis in axes):
        dims.insert(axis, ONE)
    return [Value(tuple(dims))]


def transpose(node: Operands) -> Sequence[Outcome]:
    """Permutation of axes."""
    dims = node.dims()
    order = node.list("perm") or tuple(reversed(range(len(dims))))
    if sorted(order) != list(range(len(dims))):
        raise NotShown("has an order that is none")
    return [Value(tuple(dims[axis] for axis in order))]


def depth_space(node: Operands) -> Sequence[Outcome]:
    """Exchange of channels and space: all axes but the first change."""
    dims = node.dims()
    if node.value().axis not in {None, 0}:
        raise NotShown("joins the rows")
    return [Value((dims[0], *(node.fresh() for _ in dims[1:])))]


RULES: Mapping[str, Rule] = {
    "Shape": shape,
    "Size": size,
    "ConstantOfShape": constant_of_shape,
    "Range": ranged,
    "Reshape": reshape,
    "Flatten": flatten,
    "Expand": expand,
    "Tile": tile,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "DepthToSpace": depth_space,
    "SpaceToDepth": depth_space,
}
