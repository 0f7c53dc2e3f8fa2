"""Layouts of the two inputs of a gated unit."""

import numpy as np
import pytest
from drawing import Drawing

from gatewave.graphs.analysis.shapes import shapes
from gatewave.graphs.recognition.sites import sites

PACKED = {
    "split": lambda op, x: op.node("Split", [x], outputs=2, axis=-1, num_outputs=2),
    "slices": lambda op, x: [
        op.Slice(x, *(op.tensor(np.array([n])) for n in bounds))
        for bounds in ((0, 4, 1), (4, 8, 1))
    ],
    "interleaved slices": lambda op, x: [
        op.Slice(x, *(op.tensor(np.array([n])) for n in (first, 8, 1, 2))) for first in (0, 1)
    ],
    "pairs, split": lambda op, x: [
        op.Squeeze(part, op.tensor(np.array([-1])))
        for part in op.node(
            "Split",
            [op.Reshape(x, op.tensor(np.array([3, 4, 2])))],
            outputs=2,
            axis=-1,
            num_outputs=2,
        )
    ],
    "pairs, gathered": lambda op, x: [
        op.Gather(op.Reshape(x, op.tensor(np.array([3, 4, 2]))), op.tensor(np.array(n)), axis=-1)
        for n in (0, 1)
    ],
}


@pytest.mark.parametrize("gate", ["first", "last"])
@pytest.mark.parametrize("packing", PACKED)
def test_layout_of_packed_inputs(packing, gate):
    drawing = Drawing()
    parts = list(PACKED[packing](drawing, drawing.input("x", (3, 8))))
    a, b = parts if gate == "first" else reversed(parts)
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=(3, 4))
    (site,) = sites(drawing.model())
    name = "packed halves" if packing in {"split", "slices"} else "interleaved"
    assert (site.kind, site.layout) == ("swiglu-linear", f"{name}, gate {gate}")


def _slices(drawing, x, *bounds):
    ends = [[drawing.tensor(np.array([n])) for n in (*pair, 1)] for pair in bounds]
    return [drawing.Slice(x, *end) for end in ends]


def _chunks(drawing, x):
    """Write two halves as TorchScript's exporter does."""
    one, two, last = (drawing.tensor(np.array([n])) for n in (1, 2, -1))
    size = drawing.Gather(drawing.Shape(x), last, axis=0)
    half = drawing.Div(drawing.Add(size, one), two)
    middle, end = drawing.Mul(half, one), drawing.Mul(half, two)
    start = drawing.tensor(np.array([0]))
    return drawing.Slice(x, start, middle, last), drawing.Slice(x, middle, end, last)


HALVES = {
    "from the end": ((8,), lambda op, x: _slices(op, x, (-8, -4), (-4, 2**62))),
    "from both ends": ((8,), lambda op, x: _slices(op, x, (0, -4), (-4, 8))),
    "of an unknown size": (("m",), lambda op, x: _slices(op, x, (-8, -4), (-4, 2**62))),
    "computed": ((8,), _chunks),
}


@pytest.mark.parametrize("gate", ["first", "last"])
@pytest.mark.parametrize("written", HALVES)
def test_halves_by_any_slice_bounds(written, gate):
    size, write = HALVES[written]
    drawing = Drawing()
    parts = write(drawing, drawing.input("x", ("n", *size)))
    a, b = parts if gate == "first" else reversed(parts)
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=("n", 4))
    (site,) = sites(drawing.model())
    assert (site.kind, site.layout) == ("swiglu-linear", f"packed halves, gate {gate}")


def test_computed_halves_have_equal_shapes():
    drawing = Drawing()
    a, b = _chunks(drawing, drawing.input("x", ("n", 8)))
    drawing.output(drawing.Mul(a, b), shape=("n", 4))
    model = drawing.model()
    product = model.graph.outputs[0].producer()
    assert shapes(model).equal(*product.inputs)


NO_HALVES = {
    "overlapping": (8, lambda op, x: _slices(op, x, (0, 4), (2, 6))),
    "one after one more": (8, lambda op, x: _slices(op, x, (0, 3), (4, 7))),
    "two of three": (12, lambda op, x: _slices(op, x, (0, 4), (4, 8))),
    "two axes": (
        4,
        lambda op, x: (
            *_slices(op, x, (0, 2)),
            op.Transpose(op.Slice(x, *(op.tensor(np.array([n])) for n in (2, 4, 0)))),
        ),
    ),
    "uneven": (
        5,
        lambda op, x: op.node("Split", [x, op.tensor(np.array([1, 4]))], outputs=2, axis=-1),
    ),
}


@pytest.mark.parametrize("written", NO_HALVES)
def test_other_slices_are_separate(written):
    size, write = NO_HALVES[written]
    drawing = Drawing()
    a, b = write(drawing, drawing.input("x", (4, size)))
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=("n", "m"))
    layouts = {site.layout for site in sites(drawing.model())}
    assert layouts
    assert layouts <= {"separate", ""}


@pytest.mark.parametrize(("index", "gate"), [((0, 1), "first"), ((-1, -2), "last")])
def test_pairs_gathered_by_negative_indices(index, gate):
    drawing = Drawing()
    pairs = drawing.Reshape(drawing.input("x", (3, 8)), drawing.tensor(np.array([3, 4, 2])))
    a, b = (drawing.Gather(pairs, drawing.tensor(np.array(n)), axis=-1) for n in index)
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=(3, 4))
    (site,) = sites(drawing.model())
    assert site.layout == f"interleaved, gate {gate}"


def test_slice_with_attributes_of_opset_7():
    drawing = Drawing(opset=7)
    x = drawing.input("x", (3, 8))
    a, b = (drawing.Slice(x, axes=[1], starts=[n], ends=[n + 4]) for n in (0, 4))
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=(3, 4))
    (site,) = sites(drawing.model(ir_version=3))
    assert site.layout == "packed halves, gate first"
