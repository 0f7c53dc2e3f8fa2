"""Random graphs with randomly written activations: found if and only if they are activations."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from running import check_same

from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.fuse import fuse

SIZE = 4
WIDER = {"float16": ["float32", "float64"], "float32": ["float64"], "float64": []}


class Scribe:
    """Writer of nodes that chooses at random between equivalent forms."""

    def __init__(self, draw, op):
        self.draw, self.op = draw, op

    def choose(self, *ways):
        return self.draw(st.sampled_from(ways))()

    def plain(self, value):
        """Return the value itself, or behind an Identity."""
        op = self.op
        return self.choose(lambda: value, lambda: value, lambda: op.Identity(value))

    def product(self, *factors):
        """Multiply in any order, and with any parentheses."""
        op, left = self.op, [*self.draw(st.permutations(factors))]
        while len(left) > 1:
            at = self.draw(st.integers(0, len(left) - 2))
            left[at : at + 2] = [op.Mul(self.plain(left[at]), left[at + 1])]
        return left[0]

    def negated(self, x):
        op = self.op
        return self.choose(
            lambda: op.Neg(x), lambda: op.Mul(x, -1.0), lambda: op.Sub(0.0, x),
            lambda: op.Div(x, -1.0),
        )  # fmt: skip

    def scaled(self, x, factor):
        op = self.op
        ways = [
            lambda: op.Mul(x, factor), lambda: op.Mul(factor, x),
            lambda: self.negated(op.Mul(x, -factor)),
        ]  # fmt: skip
        if factor == 1:
            ways.append(lambda: x)
        if (1 / factor).is_integer():
            ways.append(lambda: op.Div(x, 1 / factor))
        return self.choose(*ways)

    def one_plus(self, x):
        op = self.op
        return self.choose(lambda: op.Add(x, 1.0), lambda: op.Add(1.0, x), lambda: op.Sub(x, -1.0))

    def sigmoid(self, u):
        op = self.op
        return self.choose(
            lambda: op.Sigmoid(u),
            lambda: op.Div(1.0, self.one_plus(op.Exp(self.negated(u)))),
            lambda: op.Reciprocal(self.one_plus(op.Exp(self.negated(u)))),
            lambda: op.Div(op.Exp(u), self.one_plus(op.Exp(u))),
            lambda: self.scaled(self.one_plus(op.Tanh(self.scaled(u, 0.5))), 0.5),
        )

    def cast_around(self, write, x):
        """Compute in the type of ``x``, or in a wider one."""
        op = self.op
        wide = self.draw(st.sampled_from([None, *WIDER[op.dtype]]))
        if wide is None:
            return write(x)
        narrow, up = op.dtype, op.cast(x, wide)
        op.dtype = wide
        result = write(up)
        op.dtype = narrow
        return op.cast(result, narrow)

    def swish(self, x, alpha):
        op = self.op
        gate = self.cast_around(lambda u: self.sigmoid(self.scaled(u, alpha)), x)
        return self.choose(
            lambda: self.product(x, gate),
            lambda: op.Div(x, self.one_plus(op.Exp(self.scaled(x, -alpha)))),
        )

    def swiglu_linear(self, a, b, alpha):
        gate = self.cast_around(lambda u: self.sigmoid(self.scaled(u, alpha)), a)
        return self.product(a, gate, b)

    def swiglu_sigmoid(self, a, b):
        return self.product(a, self.sigmoid(a), self.sigmoid(b))

    def glu(self, a, b):
        return self.product(a, self.sigmoid(b))

    def reglu(self, a, b):
        op = self.op
        return self.product(self.choose(lambda: op.Relu(a), lambda: op.Max(a, 0.0)), b)

    def geglu(self, a, b):
        op = self.op
        argument = self.choose(lambda: op.Div(a, math.sqrt(2)), lambda: op.Mul(a, math.sqrt(0.5)))
        half = op.number(0.5)
        return self.product(a, half, self.one_plus(op.Erf(argument)), b)

    def sinc(self, x):
        op = self.op
        pi_x = self.scaled(x, math.pi)
        near = self.choose(
            lambda: op.Equal(x, 0.0), lambda: op.Equal(pi_x, 0.0),
            lambda: op.Not(op.Not(op.Equal(x, 0.0))),
        )  # fmt: skip
        safe = self.choose(lambda: pi_x, lambda: op.Where(near, 1.0, pi_x))
        ratio = op.Div(op.Sin(pi_x), safe)
        return self.choose(
            lambda: op.Where(near, 1.0, ratio), lambda: op.Where(op.Not(near), ratio, 1.0)
        )


ACTIVATIONS = {
    "swish": lambda s, a, _: s.swish(a, s.draw(st.sampled_from([1.0, 1.5, 1.702, 0.25, -2.0]))),
    "swiglu-linear": lambda s, a, b: s.swiglu_linear(
        a, b, s.draw(st.sampled_from([1.0, 1.702, 0.5]))
    ),
    "swiglu-sigmoid": lambda s, a, b: s.swiglu_sigmoid(a, b),
    "glu": lambda s, a, b: s.glu(a, b),
    "reglu": lambda s, a, b: s.reglu(a, b),
    "geglu": lambda s, a, b: s.geglu(a, b),
    "sinc": lambda s, a, _: s.sinc(a),
}

NEAR_MISSES = {
    "swish": lambda s, a, b: s.choose(
        lambda: s.product(a, s.sigmoid(s.op.Add(a, 0.125))),
        lambda: s.product(a, s.sigmoid(s.op.Mul(a, b))),
        lambda: s.product(a, s.op.HardSigmoid(a, alpha=1 / 6)),
        lambda: s.op.Div(a, s.op.Add(s.op.Exp(s.negated(a)), 1.125)),
        lambda: s.product(a, s.op.Tanh(a)),
    ),
    "swiglu-linear": lambda s, a, b: s.choose(
        lambda: s.product(a, s.sigmoid(s.op.Add(a, 0.125)), b),
        # Not one more factor: 2·b, if it is a value, is the other input of a SwiGLU.
        lambda: s.op.Mul(s.product(a, s.sigmoid(a), b), 2.0),
    ),
    "swiglu-sigmoid": lambda s, a, b: s.product(a, s.sigmoid(s.scaled(a, 1.5)), s.sigmoid(b)),
    "glu": lambda s, a, b: s.product(a, s.op.Tanh(b)),
    "reglu": lambda s, a, b: s.product(s.op.Max(a, 0.125), b),
    "geglu": lambda s, a, b: s.product(
        a, s.op.number(0.5), s.one_plus(s.op.Erf(s.op.Mul(a, 0.75))), b
    ),
    "sinc": lambda s, a, _: s.choose(
        lambda: s.op.Where(
            s.op.Equal(a, 0.0), 1.0, s.op.Div(s.op.Sin(s.op.Mul(a, 3.125)), s.op.Mul(a, 3.125))
        ),
        lambda: s.op.Where(
            s.op.Less(a, 0.0),
            1.0,
            s.op.Div(s.op.Sin(s.op.Mul(a, math.pi)), s.op.Mul(a, math.pi)),
        ),
    ),
}


OTHERS = [
    lambda op, x, _: op.Tanh(x),
    lambda op, x, _: op.Softmax(x),
    lambda op, x, y: op.Add(x, op.Softmax(y)),
    lambda op, x, y: op.Sub(op.Softmax(x), y),
    lambda op, x, _: op.Mul(op.Atan(x), 0.75),
    lambda op, x, y: op.MatMul(op.Softmax(x), y),
    lambda op, x, y: op.Atan(op.Mul(x, y)),
]
"""Nodes that cannot be mistaken for parts: x and 2x, for example, would turn a GLU into a Swish."""


def _others(draw, op, values, count):
    """Add up to ``count`` random nodes, applied to existing values."""
    for _ in range(draw(st.integers(0, count))):
        x, y = (draw(st.sampled_from(values)) for _ in "xy")
        values.append(draw(st.sampled_from(OTHERS))(op, x, y))


def _inside(written, nodes):
    """Return the values among ``nodes`` from which ``written`` is computed."""
    pending, found = [written.producer()], []
    while pending:
        node = pending.pop()
        if node in nodes and node not in found:
            found.append(node)
            pending += [v.producer() for v in node.inputs]
    return [value for node in found[1:] for value in node.outputs]


def _written(draw, kind, catalogue, dtype):
    """Draw a random graph in which ``catalogue`` writes an activation ``kind`` to ``written``."""
    op = Drawing(
        opset=draw(st.sampled_from([13, 17, 18, 20, 23])),
        dtype=dtype,
        style=draw(st.sampled_from(["initializer", "node"])),
        shape=(SIZE, SIZE),
    )
    values = [op.input("x"), op.input("y")]
    _others(draw, op, values, 4)
    before = len(op.nodes)
    a, b = draw(st.permutations(values))[:2]
    written = catalogue[kind](Scribe(draw, op), a, b)
    inside = _inside(written, op.nodes[before:])
    # What follows takes it in, but multiplies it with nothing.
    values = [*values, op.Softmax(written)]
    _others(draw, op, values, 3)
    op.output(values[-1], "out")
    if not written.uses():
        op.output(written)
    written.name = "written"
    return op, inside


def _kinds(model):
    return {site.output.name: site.kind for site in sites(model)}


@pytest.mark.parametrize("kind", ACTIVATIONS)
@settings(max_examples=12)
@given(data=st.data())
def test_activation_is_fused_with_equal_results(kind, data):
    dtype = data.draw(st.sampled_from(["float32", "float32", "float16"]))
    op, _ = _written(data.draw, kind, ACTIVATIONS, dtype)
    model = op.model()
    assert _kinds(model).get("written") == kind
    new = ir.from_proto(ir.to_proto(model))
    outcome = fuse(new)
    assert "written" in {change.output for change in outcome.changes}
    inputs = {n: np.random.default_rng(1).normal(size=(SIZE, SIZE)) for n in "xy"}
    kind_of = {"float16": np.float16, "float32": np.float32}[dtype]
    tolerance = {"float16": "bfloat16", "float32": "float32"}[dtype]
    check_same(model, new, tolerance, inputs={n: x.astype(kind_of) for n, x in inputs.items()})
    assert fuse(new).changes == []


@pytest.mark.parametrize("kind", NEAR_MISSES)
@settings(max_examples=10)
@given(data=st.data())
def test_what_is_nearly_an_activation_is_not_found(kind, data):
    op, _ = _written(data.draw, kind, NEAR_MISSES, "float32")
    model = op.model()
    assert _kinds(model).get("written") != kind


@pytest.mark.parametrize("kind", ACTIVATIONS)
@settings(max_examples=10)
@given(data=st.data())
def test_activation_with_used_inner_value_is_not_found(kind, data):
    op, inside = _written(data.draw, kind, ACTIVATIONS, "float32")
    bared = [v for v in inside if v.producer().op_type in {"Sigmoid", "Exp", "Erf", "Sin", "Relu"}]
    assume(bared)
    op.output(data.draw(st.sampled_from(bared)), "bared")
    assert _kinds(op.model()).get("written") != kind
