"""Lower bounds of ranks that ONNX's inference leaves open, and their use in recognition."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn

from gatewave.graphs.analysis.shapes import Shapes, shapes
from gatewave.graphs.recognition.sites import survey
from gatewave.graphs.rewrite.fuse import fuse
from gatewave.graphs.rewrite.swap import swap


def _weight(op, *shape):
    return op.tensor(np.ones(shape, np.float32))


def _ints(op, *numbers):
    return op.tensor(np.array(numbers, np.int64))


def _open(op, x):
    """Return ``x`` as a tensor of unknown rank."""
    made = op.node("Unknown", [x], domain="some.where")
    made.type = ir.TensorType(ir.DataType.FLOAT)
    return made


def _of_rank(op, x, rank):
    """Return ``x`` reshaped to ``rank`` axes of unknown sizes."""
    sizes = op.node("Unknown", [x], domain="some.where")
    sizes.type, sizes.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([rank])
    return op.Reshape(x, sizes)


MADE = {
    "reshaped": (3, lambda op, x: _of_rank(op, x, 3)),
    "transposed": (3, lambda op, x: op.Transpose(_open(op, x), perm=[0, 2, 1])),
    "convolved": (4, lambda op, x: op.Conv(_open(op, x), _weight(op, 3, 3, 1, 1))),
    "normalised": (3, lambda op, x: op.InstanceNormalization(_open(op, x), *_rows(op, 2))),
    "pooled": (3, lambda op, x: op.GlobalAveragePool(_open(op, x))),
    "pooled by a kernel": (4, lambda op, x: op.MaxPool(_open(op, x), kernel_shape=[2, 2])),
    "a product with a bias": (
        1, lambda op, x: op.Add(op.MatMul(_open(op, x), _weight(op, 8, 4)), _weight(op, 4)),
    ),
    "a product of matrices": (
        3, lambda op, x: op.MatMul(_of_rank(op, x, 3), _weight(op, 8, 4)),
    ),
    "gemm": (2, lambda op, x: op.Gemm(_open(op, x), _weight(op, 8, 4))),
    "flattened": (2, lambda op, x: op.Flatten(_open(op, x))),
    "reduced": (4, lambda op, x: op.ReduceMean(_of_rank(op, x, 4), axes=[-1])),
    "reduced away": (3, lambda op, x: op.ReduceMean(_of_rank(op, x, 4), axes=[-1], keepdims=0)),
    "reduced to an unknown rank": (0, lambda op, x: op.ReduceMean(_open(op, x), keepdims=0)),
    "squeezed": (2, lambda op, x: op.Squeeze(_of_rank(op, x, 3), _ints(op, 1))),
    "unsqueezed": (2, lambda op, x: op.Unsqueeze(_open(op, x), _ints(op, 0, 1))),
    "expanded": (2, lambda op, x: op.Expand(_open(op, x), _ints(op, 3, 1))),
    "filled": (2, lambda op, x: op.ConstantOfShape(op.Shape(_of_rank(op, x, 2)))),
    "gathered": (2, lambda op, x: op.Gather(_of_rank(op, x, 2), _ints(op, 0))),
    "joined": (4, lambda op, x: op.Concat(_open(op, x), _of_rank(op, x, 4), axis=1)),
    "joined at an axis": (3, lambda op, x: op.Concat(_open(op, x), _open(op, x), axis=2)),
    "padded": (4, lambda op, x: op.Pad(_of_rank(op, x, 4), op.Shape(x))),
    "split": (3, lambda op, x: op.node("Split", [_of_rank(op, x, 3)], outputs=2, axis=0)[1]),
    "the wider operand": (3, lambda op, x: op.Add(_open(op, x), _of_rank(op, x, 3))),
    "a chain": (3, lambda op, x: op.Relu(op.Softmax(op.Neg(_of_rank(op, x, 3))))),
    "recurrent": (4, lambda op, x: op.LSTM(_open(op, x), *_weights(op), hidden_size=4)),
    "contributed": (
        3, lambda op, x: op.node("QuickGelu", [_of_rank(op, x, 3)], domain="com.microsoft"),
    ),
    "not known": (0, lambda op, x: op.Neg(_open(op, x))),
}  # fmt: skip


def _rows(op, count):
    return [_weight(op, 3) for _ in range(count)]


def _weights(op):
    return _weight(op, 1, 16, 8), _weight(op, 1, 16, 4)


def _least(write, opset=17):
    op = Drawing(opset=opset)
    value = write(op, op.input("x"))
    name = value.name
    op.output(op.node("Unknown", [value], domain="some.where"))
    model = op.model(domains=["some.where", "com.microsoft"])
    (value,) = (v for node in model.graph for v in node.outputs if v.name == name)
    return shapes(model).least_rank(value)


@pytest.mark.parametrize("made", MADE)
def test_ranks_follow_from_operators(made):
    least, write = MADE[made]
    assert _least(write) == least


WANTED = {
    "a convolution": (4, lambda op, v: op.Conv(v, _weight(op, 3, 3, 1, 1))),
    "a pool": (3, lambda op, v: op.GlobalMaxPool(v)),
    "gemm": (2, lambda op, v: op.Gemm(v, _weight(op, 8, 4))),
    "a product": (1, lambda op, v: op.MatMul(v, _weight(op, 8, 4))),
    "an axis": (3, lambda op, v: op.Concat(v, v, axis=-3)),
    "a permutation": (3, lambda op, v: op.Transpose(v, perm=[0, 2, 1])),
    "something after a function": (
        4, lambda op, v: op.Conv(op.Mul(op.Relu(v), _weight(op, 1)), _weight(op, 3, 3, 1, 1)),
    ),
    "two unknown operands": (
        0, lambda op, v: op.Conv(op.Mul(v, _open(op, v)), _weight(op, 3, 3, 1, 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("user", WANTED)
def test_ranks_follow_from_uses(user):
    least, use = WANTED[user]
    taken = []

    def write(op, x):
        taken.append(_open(op, x))
        use(op, taken[0])
        return taken[0]

    assert _least(write) == least


def test_a_branch_that_may_not_run_tells_nothing():
    op, inner = Drawing(opset=17), Drawing(opset=17, style="node")
    value = _open(op, op.input("x"))
    used = inner.output(inner.Conv(value, _weight(inner, 3, 3, 1, 1)), "used")
    other = Drawing(opset=17)
    same = other.output(other.Identity(value), "same")
    branches = [
        ir.Graph([], [result], nodes=drawing.nodes, name=result.name)
        for result, drawing in ((used, inner), (same, other))
    ]
    condition = op.tensor(np.array(True))
    op.output(op.If(condition, then_branch=branches[0], else_branch=branches[1]))
    model = op.model(domains=["some.where"])
    assert shapes(model).least_rank(model.graph[0].outputs[0]) == 0


def test_without_inference_the_stated_shape_counts():
    x = Drawing().input("x", (2, 3))
    assert Shapes({}).least_rank(x) == 2


def _scaled(op, x, shape=(1,)):
    return op.Mul(x, op.Sigmoid(op.Mul(x, op.tensor(np.full(shape, 1.5, np.float32)))))


def _paddle(op, x, shape=(1,)):
    """Write a linear layer with an input that is reshaped to computed sizes."""
    linear = op.Add(op.MatMul(_of_rank(op, x, 3), _weight(op, 4, 8)), _weight(op, 8))
    return op.MatMul(_scaled(op, linear, shape), _weight(op, 8, 4))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("style", ["initializer", "node"])
def test_swish_of_reshaped_tensor_is_fused(shape, style):
    model = drawn(lambda op, x: _paddle(op, x, shape), style=style)
    model.opset_imports["some.where"] = 1
    surveyed = survey(model)
    assert [(site.kind, dict(site.reals)) for site in surveyed.sites] == [("swish", {"alpha": 1.5})]
    assert surveyed.near_misses == []
    assert [change.kind for change in fuse(model).changes if change.output] == ["swish"]


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_swish_of_unknown_rank_is_left(shape):
    op = Drawing()
    op.output(op.Softmax(_scaled(op, _open(op, op.input("x")), shape)))
    model = op.model(domains=["some.where"])
    surveyed = survey(model)
    assert [site.kind for site in surveyed.sites] == ["swish"]
    reason = f"is not known, so that a constant of shape {[*shape]} inside may add an axis to it"
    (miss,) = surveyed.near_misses
    assert reason in miss.reason
    for outcome in (fuse(model), swap(model, source="swish", to="gelu")):
        assert outcome.changes == []
        (left,) = (one for one in outcome.skipped if one.kind == "swish")
        assert reason in left.reason


def test_constant_of_more_axes_is_near_miss():
    op = Drawing(shape=(4,))
    op.output(_scaled(op, op.input("x"), (1, 1)), shape=(1, 4))
    surveyed = survey(op.model())
    assert [site.kind for site in surveyed.sites] == ["sigmoid"]
    (miss,) = surveyed.near_misses
    assert miss.site.kind == "swish"
    assert "its input's shape is not that of its output" in miss.reason


@pytest.mark.parametrize("style", ["initializer", "node"])
def test_weights_behind_the_value_itself_make_no_gate(style):
    # x is a product and a bias; what is looked for lies before both.
    def write(op, x):
        linear = op.Add(op.MatMul(x, _weight(op, 4, 8)), _weight(op, 8))
        row = op.tensor(np.arange(1, 9, dtype=np.float32))
        return op.MatMul(op.Mul(linear, op.Sigmoid(op.Mul(linear, row))), _weight(op, 8, 4))

    assert [site.kind for site in survey(drawn(write, style=style)).sites] == ["sigmoid"]
