"""Rules of operators that combine or choose elements along some of the axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatewave.service.repository.rowwise.elementwise import unary
from gatewave.service.repository.rowwise.operands import Operands, Outcome, Rule, apart, from_start
from gatewave.service.repository.rowwise.values import (
    BATCH,
    ONE,
    Dims,
    Element,
    NotShown,
    Size,
    Value,
    checked,
    has_rows,
    is_beyond,
    vector,
    whole,
)

JOINS = "joins the rows"


def softmax(node: Operands) -> Sequence[Outcome]:
    """Softmax along one axis; before opset 13, along that axis and all following axes."""
    dims = node.dims()
    if node.opset < 13:  # noqa: PLR2004
        axis = from_start(node.integer("axis", 1), len(dims))
        apart(node.value(), *range(axis, len(dims)), why="normalises over the rows")
    else:
        axis = from_start(node.integer("axis", -1), len(dims))
        apart(node.value(), axis, why="normalises over the rows")
    return [Value(dims)]


def reduce(node: Operands) -> Sequence[Outcome]:
    """Reduction over some axes; all axes if none are named."""
    dims = node.dims()
    # The opset from which the axes are an input: ReduceSum changed before the other reductions.
    since = 13 if node.operator == "ReduceSum" else 18
    axes = node.listed("axes", 1, since)
    if not axes and node.opset >= since and node.integer("noop_with_empty_axes", 0):
        return [Value(dims)]
    removed = {from_start(axis, len(dims)) for axis in axes or range(len(dims))}
    return [_reduced(node, removed)]


def _reduced(node: Operands, removed: set[int]) -> Value:
    """Return the operand without the axes ``removed``, or with size 1 there."""
    dims = node.dims()
    apart(node.value(), *removed)
    if node.integer("keepdims", 1):
        return Value(tuple(ONE if axis in removed else size for axis, size in enumerate(dims)))
    return Value(tuple(size for axis, size in enumerate(dims) if axis not in removed))


def extremum(node: Operands) -> Sequence[Outcome]:
    """Index of the largest or smallest element along an axis."""
    return [_reduced(node, {from_start(node.integer("axis", 0), len(node.dims()))})]


def cumulative(node: Operands) -> Sequence[Outcome]:
    """Running sum along an axis."""
    axes = node.integers(1)
    if axes is None or len(axes) != 1:
        raise NotShown("computes its axis")
    apart(node.value(), from_start(axes[0], len(node.dims())))
    return [Value(node.dims())]


def top(node: Operands) -> Sequence[Outcome]:
    """Largest elements along an axis, and their indices."""
    dims = node.dims()
    axis = from_start(node.integer("axis", -1), len(dims))
    apart(node.value(), axis, why="ranks the rows")
    # A count that depends on a row would give rows of different lengths.
    node.fixed(1)
    chosen = Value((*dims[:axis], node.fresh(), *dims[axis + 1 :]))
    return [chosen, chosen]


def one_hot(node: Operands) -> Sequence[Outcome]:
    """One-hot encoding, which inserts an axis."""
    node.fixed(1, 2)
    dims = list(node.dims())
    axis = from_start(node.integer("axis", -1), len(dims) + 1)
    dims.insert(axis, node.fresh())
    return [Value(tuple(dims))]


def concat(node: Operands) -> Sequence[Outcome]:
    """Concatenation along an axis, also of small vectors of sizes."""
    small = [node.raw(i).small for i in range(len(node.values))]
    joined = tuple(element for part in small for element in part or ())
    ranked = all(node.raw(i).dims is not None for i in range(len(node.values)))
    if ranked and None not in small and all(len(v.dims or ()) == 1 for v in node.values if v):
        return [vector(joined)]
    shapes = [node.dims(i) for i in range(len(node.values))]
    axis = from_start(node.integer("axis", 1), len(shapes[0]))
    return [Value(_joined(node, shapes, axis))]


def _joined(node: Operands, shapes: Sequence[Dims], axis: int) -> Dims:
    """Return the shape of a concatenation.

    Raises:
        NotShown: Rows are concatenated, or ranks differ.
    """
    if len({len(dims) for dims in shapes}) > 1:
        raise NotShown("joins tensors of other ranks")
    dims = []
    for i, column in enumerate(zip(*shapes, strict=True)):
        batched = any(size.has_rows for size in column)
        if batched and (i == axis or len(set(column)) > 1):
            raise NotShown(JOINS)
        numbers = [size.number for size in column]
        known = [number for number in numbers if number is not None]
        if i == axis:
            dims.append(Size(sum(known)) if len(known) == len(numbers) else node.fresh())
        else:
            dims.append(Size(known[0]) if known else column[0])
    return checked(tuple(dims))


def split(node: Operands) -> Sequence[Outcome]:
    """Parts along an axis."""
    dims = node.dims()
    axis = from_start(node.integer("axis", 0), len(dims))
    apart(node.value(), axis, why="divides the rows")
    sizes = node.listed("split", 1, 13)
    number = dims[axis].number
    if sizes is None and number is not None and number % node.outputs == 0:
        sizes = (number // node.outputs,) * node.outputs
    parts = (
        [Size(part) for part in sizes]
        if sizes is not None and len(sizes) == node.outputs
        else [node.fresh() for _ in range(node.outputs)]
    )
    return [Value((*dims[:axis], part, *dims[axis + 1 :])) for part in parts]


def slices(node: Operands) -> Sequence[Outcome]:
    """Slices of axes; the batch axis only as a whole."""
    starts, ends, axes, steps = _ranges(node)
    value = node.raw(0)
    if value.elements is not None and axes in {(0,), (-1,)}:
        return [_part(value.elements, starts[0], ends[0], steps[0])]
    dims = list(node.dims())
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = from_start(axis, len(dims))
        if start == Size(0) and step == ONE and (is_beyond(end, dims[at]) or end == dims[at]):
            continue
        if dims[at].has_rows:
            raise NotShown("takes some of the rows")
        if any(map(has_rows, (start, end, step))):
            raise NotShown("computes with the number of rows")
        length = _length(dims[at].number, whole(start), whole(end), whole(step))
        dims[at] = node.fresh() if length is None else Size(length)
    return [Value(tuple(dims))]


Elements = tuple[Element, ...]


def _ranges(node: Operands) -> tuple[Elements, Elements, tuple[int, ...], Elements]:
    """Return starts, ends, axes and steps of a Slice: attributes before opset 10, then inputs."""
    if node.opset < 10:  # noqa: PLR2004 - attributes until then
        first = node.list("starts") or ()
        starts: Elements | None = tuple(map(Size, first))
        ends: Elements | None = tuple(map(Size, node.list("ends") or ()))
        axes = node.list("axes") or tuple(range(len(first)))
        steps: Elements | None = None
    else:
        starts, ends = node.elements(1), node.elements(2)
        steps = node.elements(4) or () if node.has(4) else None
        found = node.integers(3) if node.has(3) else tuple(range(len(starts or ())))
        if found is None:
            raise NotShown("computes its axes")
        axes = found
    if starts is None or ends is None:
        raise NotShown("has ranges of unknown number")
    steps = (ONE,) * len(axes) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise NotShown("has ranges that do not fit its axes")
    return starts, ends, axes, steps


def _part(elements: Elements, start: Element, end: Element, step: Element) -> Value:
    """Return a slice of a small vector of sizes or constants."""
    first, last, every = whole(start), whole(end), whole(step)
    if first is None or last is None or not every:
        raise NotShown("takes a part that is computed from sizes")
    return vector(elements[first:last:every])


def _length(size: int | None, start: int | None, end: int | None, step: int | None) -> int | None:
    """Return the size of a sliced axis; None if it is unknown or the step is negative."""
    if size is None or start is None or end is None or not step:
        return None
    return len(range(size)[start:end:step]) if step > 0 else None


def pad(node: Operands) -> Sequence[Outcome]:
    """Padding of axes; the batch axis only by 0."""
    dims = node.dims()
    by_attribute = node.opset < 11  # noqa: PLR2004
    pads = _pads(node) if by_attribute else node.elements(1)
    axes = node.integers(3) if node.has(3) else tuple(range(len(dims)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        raise NotShown("computes which axes it pads")
    node.fixed(2)
    padded = list(dims)
    for i, axis in enumerate(axes):
        at, ends = from_start(axis, len(dims)), (pads[i], pads[i + len(axes)])
        if ends == (Size(0), Size(0)):
            continue
        if dims[at].has_rows or any(map(has_rows, ends)):
            raise NotShown("pads the rows")
        numbers = [dims[at].number, *map(whole, ends)]
        known = [number for number in numbers if number is not None]
        padded[at] = Size(sum(known)) if len(known) == len(numbers) else node.fresh()
    return [Value(tuple(padded))]


def _pads(node: Operands) -> Elements | None:
    """Return the pads of opsets before 11, which are an attribute."""
    given = node.list("pads")
    return None if given is None else tuple(map(Size, given))


def gather(node: Operands) -> Sequence[Outcome]:
    """Slices of the data at indices; the axis of the indices may be the batch axis."""
    data, indices = node.raw(0), node.value(1)
    if data.elements is not None and data.dims is not None and len(data.dims) == 1:
        return [_picked(data.elements, indices)]
    shape, chosen = node.dims(0), node.dims(1)
    axis = from_start(node.integer("axis", 0), len(shape))
    apart(data, axis, why="takes some of the rows")
    return [Value(checked((*shape[:axis], *chosen, *shape[axis + 1 :])))]


def _picked(elements: Elements, indices: Value) -> Value:
    """Elements of a vector of sizes or constants."""
    if indices.is_batched and not any(map(has_rows, elements)):
        return Value(indices.dims)
    places = [whole(place) for place in indices.small or ()]
    count = len(elements)
    if indices.small is None or any(p is None or not -count <= p < count for p in places):
        if any(map(has_rows, elements)):
            raise NotShown("computes with the number of rows")
        return Value(indices.dims)
    picked = tuple(elements[place] for place in places if place is not None)
    return Value(indices.dims, picked)


def gather_elements(node: Operands) -> Sequence[Outcome]:
    """Elements of the data at indices within the same row."""
    data, indices = node.value(0), node.value(1)
    shape, chosen = node.dims(0), node.dims(1)
    axis = from_start(node.integer("axis", 0), len(shape))
    if data.axis != indices.axis or len(shape) != len(chosen):
        raise NotShown("takes elements of other rows")
    apart(data, axis, why="takes elements of other rows")
    if data.axis is not None and shape[data.axis] != chosen[data.axis]:
        raise NotShown("takes elements of other rows")
    return [Value(chosen)]


def gather_nd(node: Operands) -> Sequence[Outcome]:
    """Slices of the data at multi-dimensional indices."""
    data, indices = node.value(0), node.value(1)
    shape, chosen = node.dims(0), node.dims(1)
    shared, depth = node.integer("batch_dims", 0), chosen[-1].number if chosen else None
    if depth is None or indices.axis == len(chosen) - 1:
        raise NotShown("takes elements at places of unknown depth")
    together = data.axis is not None and data.axis == indices.axis and data.axis < shared
    if data.is_batched and not (together and shape[:shared] == chosen[:shared]):
        raise NotShown("takes elements of other rows")
    if not data.is_batched and indices.axis is not None and indices.axis < shared:
        raise NotShown("takes elements of other rows")
    return [Value(checked((*chosen[:-1], *shape[shared + depth :])))]


def resize(node: Operands) -> Sequence[Outcome]:
    """Resizing of each sample: the batch axis has the scale 1, or its own size."""
    dims = node.dims()
    axis = node.value().axis
    if axis not in {None, 0}:
        raise NotShown("has the rows along another axis than the first")
    tempting = node.text("coordinate_transformation_mode") == "tf_crop_and_resize"
    if tempting or node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotShown("cuts out a part, or keeps a ratio")
    axes = node.list("axes") or tuple(range(len(dims)))
    places = [from_start(each, len(dims)) for each in axes]
    if axis is not None and axis in places:
        _unscaled(node, places.index(axis), dims[axis])
    return [Value(tuple(size if i == axis else node.fresh() for i, size in enumerate(dims)))]


def _unscaled(node: Operands, place: int, size: Size) -> None:
    """Check that the batch axis keeps its size.

    Raises:
        NotShown: Its scale is not 1, or its size is not the number of rows.
    """
    scales = node.elements(1 if node.opset < 11 or node.operator == "Upsample" else 2)  # noqa: PLR2004
    if node.operator == "Upsample" and "scales" in node.attributes:
        scales = node.attributes["scales"].numbers
    if scales and len(scales) > place and scales[place] == 1.0:
        return
    sizes = node.elements(3) if node.has(3) else None
    if not sizes or len(sizes) <= place or sizes[place] != size:
        raise NotShown("is not shown to leave the number of rows as it is")


def triangle(node: Operands) -> Sequence[Outcome]:
    """Upper or lower triangle of matrices: the last two axes."""
    rank = len(node.dims())
    apart(node.value(), rank - 1, rank - 2)
    node.fixed(1)
    return [Value(node.dims())]


def grid_sample(node: Operands) -> Sequence[Outcome]:
    """Samples of each image at the positions of its own grid."""
    data, grid = node.dims(0), node.dims(1)
    if data[0] != grid[0] or not data[0].has_rows:
        raise NotShown("samples at places of other rows")
    return [Value((data[0], data[1], *grid[1:-1]))]


def table(rank: int) -> Rule:
    """Return the rule of an operator of ``ai.onnx.ml`` with a row of features for each row.

    Args:
        rank: Rank of the outputs: the first output of a classifier has one label for each row.
    """

    def rule(node: Operands) -> Sequence[Outcome]:
        dims = node.dims()
        if len(dims) != 2 or dims[0] != BATCH:  # noqa: PLR2004
            raise NotShown("has other than a row of features for each row")
        first = Value((BATCH, node.fresh())[:rank])
        return [first, Value((BATCH, node.fresh()))]

    return rule


REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys((f"Reduce{name}" for name in REDUCTIONS), reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), extremum),
    "CumSum": cumulative,
    "TopK": top,
    "OneHot": one_hot,
    "Concat": concat,
    "Split": split,
    "Slice": slices,
    "Pad": pad,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Trilu": triangle,
    "GridSample": grid_sample,
}
TABLES: Mapping[str, Rule] = {
    **dict.fromkeys(("TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier"), table(1)),
    **dict.fromkeys(("TreeEnsembleRegressor", "LinearRegressor", "SVMRegressor"), table(2)),
    **dict.fromkeys(("Scaler", "Normalizer", "Imputer"), table(2)),
    **dict.fromkeys(("LabelEncoder", "Binarizer"), unary),
}
