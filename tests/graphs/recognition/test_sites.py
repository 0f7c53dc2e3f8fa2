"""Recognition of activations in every spelling, without false positives."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing, drawn

from gatewave.export.operators import decomposed
from gatewave.graphs.analysis.shapes import shapes
from gatewave.graphs.recognition.expressions import ExpressionReader
from gatewave.graphs.recognition.kinds import KINDS
from gatewave.graphs.recognition.sites import HOLE, sites, survey

ROOT_2 = math.sqrt(2)
GELU_SLOPE = math.sqrt(2 / math.pi)


def found(model):
    return [(site.kind, dict(site.reals)) for site in sites(model)]


SIGMOIDS = {
    "Sigmoid": lambda op, u: op.Sigmoid(u),
    "1/(1+exp(-u))": lambda op, u: op.Div(1.0, op.Add(1.0, op.Exp(op.Neg(u)))),
    "reciprocal": lambda op, u: op.Reciprocal(op.Add(op.Exp(op.Mul(u, -1.0)), 1.0)),
    "exp(u)/(1+exp(u))": lambda op, u: op.Div(op.Exp(u), op.Add(op.Exp(u), 1.0)),
    "tanh": lambda op, u: op.Mul(0.5, op.Add(1.0, op.Tanh(op.Div(u, 2.0)))),
    "tanh, distributed": lambda op, u: op.Add(op.Mul(op.Tanh(op.Mul(u, 0.5)), 0.5), 0.5),
    "1-sigmoid(-u)": lambda op, u: op.Sub(1.0, op.Sigmoid(op.Neg(u))),
    "power": lambda op, u: op.Pow(op.Add(op.Exp(op.Sub(0.0, u)), 1.0), -1.0),
    "exp(-softplus(-u))": lambda op, u: op.Exp(op.Neg(op.Softplus(op.Neg(u)))),
}

SCALES = {
    "multiplied": lambda op, x, alpha: op.Mul(x, alpha),
    "commuted": lambda op, x, alpha: op.Mul(alpha, x),
    "divided": lambda op, x, alpha: op.Div(x, 1 / alpha),
    "negated": lambda op, x, alpha: op.Neg(op.Mul(x, -alpha)),
}


@pytest.mark.parametrize("style", ["initializer", "node", "cast"])
@pytest.mark.parametrize("sigmoid", SIGMOIDS)
def test_silu_is_found_with_any_sigmoid(sigmoid, style):
    write = SIGMOIDS[sigmoid]
    assert found(drawn(lambda op, x: op.Mul(x, write(op, x)), style=style)) == [
        ("swish", {"alpha": 1.0})
    ]
    assert found(drawn(lambda op, x: op.Mul(write(op, x), x), style=style)) == [
        ("swish", {"alpha": 1.0})
    ]


@pytest.mark.parametrize("alpha", [1.702, -0.5, 0.01, 30.0, 1000.0])
@pytest.mark.parametrize("scale", SCALES)
def test_swish_is_found_with_its_alpha(scale, alpha):
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(SCALES[scale](op, x, alpha))))
    ((kind, reals),) = found(model)
    assert kind == "swish"
    assert reals["alpha"] == pytest.approx(alpha, rel=2e-7)


@pytest.mark.parametrize("alpha", [1.702, -0.5, 0.01, 30.0, 1000.0])
def test_alpha_reads_as_it_was_written(alpha):
    model = drawn(lambda op, x: op.Mul(x, op.Sigmoid(op.Mul(x, alpha))))
    assert found(model) == [("swish", {"alpha": alpha})]


@pytest.mark.parametrize("alpha", [0.1, -1 / 3, 1.702])
@pytest.mark.parametrize("scale", SCALES)
def test_alpha_is_exact_in_float64(scale, alpha):
    def write(op, x):
        return op.Mul(x, op.Sigmoid(SCALES[scale](op, x, alpha)))

    ((_, reals),) = found(drawn(write, dtype="float64"))
    assert reals["alpha"] == pytest.approx(alpha, rel=2e-16)


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish_is_found_as_a_quotient(alpha):
    def write(op, x):
        return op.Div(x, op.Add(op.Exp(op.Mul(x, -alpha)), 1.0))

    assert found(drawn(write)) == [("swish", {"alpha": alpha})]


GATED = {
    "(a·σ)·b": lambda op, a, gate, b: op.Mul(op.Mul(a, gate), b),
    "b·(a·σ)": lambda op, a, gate, b: op.Mul(b, op.Mul(a, gate)),
    "(a·b)·σ": lambda op, a, gate, b: op.Mul(op.Mul(a, b), gate),
    "a·(b·σ)": lambda op, a, gate, b: op.Mul(a, op.Mul(b, gate)),
    "(σ·b)·a": lambda op, a, gate, b: op.Mul(op.Mul(gate, b), a),
}


@pytest.mark.parametrize("order", GATED)
@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swiglu_is_found_in_every_order(order, alpha):
    def write(op, a, b):
        return GATED[order](op, a, op.Sigmoid(op.Mul(a, alpha)), b)

    model = drawn(write, inputs=2)
    (site,) = sites(model)
    assert (site.kind, dict(site.reals)) == ("swiglu-linear", {"alpha": alpha})
    assert [value.name for value in site.inputs] == ["x", "y"]
    assert site.layout == "separate"
    assert len(site.nodes) == 4


@pytest.mark.parametrize("order", GATED)
def test_swiglu_with_a_sigmoid_gate_is_found_in_every_order(order):
    def write(op, a, b):
        return GATED[order](op, a, op.Sigmoid(a), op.Sigmoid(b))

    assert found(drawn(write, inputs=2)) == [("swiglu-sigmoid", {})]


def test_swiglu_is_found_as_a_quotient():
    def write(op, a, b):
        return op.Div(op.Mul(a, b), op.Add(op.Exp(op.Neg(a)), 1.0))

    assert found(drawn(write, inputs=2)) == [("swiglu-linear", {"alpha": 1.0})]


def _sinc(op, x, *, condition=lambda op, x, _: op.Equal(x, 0.0), pi=math.pi):
    pi_x = op.Mul(x, pi)
    return op.Where(condition(op, x, pi_x), 1.0, op.Div(op.Sin(pi_x), pi_x))


SINCS = {
    "torch": _sinc,
    "angle compared": lambda op, x: _sinc(op, x, condition=lambda op, _, u: op.Equal(u, 0.0)),
    "guarded": lambda op, x: _sinc(op, x, condition=lambda op, x, _: op.Less(op.Abs(x), 1e-7)),
    "swapped": lambda op, x: op.Where(
        op.Not(op.Equal(x, 0.0)),
        op.Div(op.Sin(op.Mul(math.pi, x)), op.Mul(math.pi, x)),
        1.0,
    ),
    "safe divisor": lambda op, x: op.Where(
        op.Equal(x, 0.0),
        1.0,
        op.Div(op.Sin(op.Mul(x, math.pi)), op.Mul(op.Where(op.Equal(x, 0.0), 1.0, x), math.pi)),
    ),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("spelling", SINCS)
def test_sinc_is_found(spelling, dtype):
    assert found(drawn(SINCS[spelling], dtype=dtype)) == [("sinc", {})]


def _as_jax_writes_it(op, x, taken=None):
    """Write sinc as JAX does: the 1 is expanded to the shape of the angle."""
    angle = op.Mul(math.pi, x)
    rows = op.Gather(op.Shape(angle), op.tensor(np.array([0])), axis=0)
    shape = op.Concat(rows, op.tensor(np.array([4])), axis=0)
    if taken is not None:
        taken.append(shape)
    is_zero = op.Equal(x, 0.0)
    one = op.Expand(op.number(1.0), shape)
    safe = op.Where(is_zero, one, angle)
    near = op.Add(op.Mul(angle, 0.0), 1.0)
    return op.Where(is_zero, near, op.Div(op.Sin(safe), safe))


@pytest.mark.parametrize("used", [False, True])
def test_the_shape_of_an_intermediate_for_a_constant_is_no_use_of_it(used):
    drawing, taken = Drawing(), []
    drawing.output(_as_jax_writes_it(drawing, drawing.input("x"), taken), "out")
    if used:
        drawing.output(taken[0], "shape", shape=(2,), dtype="int64")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sinc"] * (not used)
    if not used:
        assert len(surveyed.sites[0].nodes) == len(drawing.nodes)


def _selected(op, condition, x, y):
    """Write a selection as tf2onnx writes `tf.where`."""
    yes = op.Cast(condition, to=ir.DataType.FLOAT.value)
    no = op.Cast(op.Not(condition), to=ir.DataType.FLOAT.value)
    return op.Add(op.Mul(yes, x), op.Mul(no, y))


LIKE = {
    "Expand": lambda op, x: op.Expand(op.number(1.0), op.Shape(x)),
    "ConstantOfShape": lambda op, x: op.ConstantOfShape(
        op.Cast(op.Shape(x), to=ir.DataType.INT64.value), value=ir.tensor(np.ones(1, np.float32))
    ),
    "number": lambda op, _: op.number(1.0),
}


@pytest.mark.parametrize("like", LIKE)
def test_sinc_is_found_where_products_select(like):
    drawing = Drawing(shape=None)
    angle = drawing.Mul(drawing.input("x", ("n", "m")), math.pi)
    is_zero, one = drawing.Equal(angle, 0.0), LIKE[like](drawing, angle)
    safe = _selected(drawing, is_zero, one, angle)
    quotient = drawing.Div(drawing.Sin(safe), safe)
    drawing.output(_selected(drawing, is_zero, one, quotient), "out", shape=("a", "b"))
    assert found(drawing.model()) == [("sinc", {})]


def test_a_constant_of_another_shape_makes_no_sinc():
    drawing = Drawing()
    x, y = drawing.input("x", ("n", 1)), drawing.input("y", ("n", "m"))
    angle = drawing.Mul(x, math.pi)
    one = drawing.Expand(drawing.number(1.0), drawing.Shape(y))
    is_zero = drawing.Equal(angle, 0.0)
    quotient = drawing.Div(drawing.Sin(angle), angle)
    drawing.output(drawing.Where(is_zero, one, quotient), "out", shape=("n", "m"))
    assert found(drawing.model()) == []


def test_a_quotient_of_zeros_that_is_left_in_is_said():
    drawing = Drawing()
    x = drawing.input("x")
    angle = drawing.Mul(x, math.pi)
    quotient = drawing.Div(drawing.Sin(angle), angle)
    drawing.output(_selected(drawing, drawing.Equal(x, 0.0), drawing.number(1.0), quotient), "out")
    surveyed = survey(drawing.model())
    assert surveyed.sites == []
    (miss,) = surveyed.near_misses
    assert (miss.site.kind, miss.site.output.name) == ("sinc", "out")
    assert "it gives NaN at 0" in miss.reason


def test_the_exact_gelu_of_tensorflow_is_found():
    def write(op, x):
        return op.Mul(op.Mul(x, 0.5), op.Erfc(op.Mul(op.Neg(x), math.sqrt(0.5))))

    assert found(drawn(write)) == [("gelu", {})]


def test_a_cast_sigmoid_belongs_to_the_silu_of_halves():
    def write(op, x):
        return op.Mul(x, op.cast(op.Sigmoid(op.cast(x, "float32")), "float16"))

    (site,) = sites(drawn(write, dtype="float16"))
    assert site.kind == "swish"
    assert len(site.nodes) == 4


def test_a_silu_between_casts_is_one_of_halves():
    def write(op, x):
        wide = op.cast(x, "float32")
        return op.cast(op.Mul(wide, op.Sigmoid(wide)), "float16")

    (site,) = sites(drawn(write, dtype="float16"))
    assert (site.kind, site.dtype) == ("swish", ir.DataType.FLOAT16)
    assert len(site.nodes) == 4


OTHERS = {
    "gelu": lambda op, x: op.Mul(op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, ROOT_2)), 1.0)),
    "gelu-tanh": lambda op, x: op.Mul(
        op.Mul(0.5, x),
        op.Add(
            1.0,
            op.Tanh(op.Mul(GELU_SLOPE, op.Add(x, op.Mul(0.044715, op.Pow(x, 3.0))))),
        ),
    ),
    "mish": lambda op, x: op.Mul(x, op.Tanh(op.Log(op.Add(1.0, op.Exp(x))))),
    "hardswish": lambda op, x: op.Div(op.Mul(x, op.Clip(op.Add(x, 3.0), 0.0, 6.0)), 6.0),
    "relu6": lambda op, x: op.Clip(x, 0.0, 6.0),
    "relu": lambda op, x: op.Max(x, 0.0),
    "softplus": lambda op, x: op.Log(op.Add(op.Exp(x), 1.0)),
    "sigmoid": SIGMOIDS["1/(1+exp(-u))"],
    "tanh": lambda op, x: op.Sub(op.Mul(op.Sigmoid(op.Mul(x, 2.0)), 2.0), 1.0),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_found_decomposed(kind):
    (site,) = sites(drawn(OTHERS[kind]))
    assert (site.kind, site.written == "decomposed") == (kind, len(site.nodes) > 1)


@pytest.mark.parametrize("kind", OTHERS)
def test_geglu_and_its_kin_are_found(kind):
    gated = {"gelu": "geglu", "gelu-tanh": "geglu-tanh", "relu": "reglu"}
    model = drawn(lambda op, a, b: op.Mul(OTHERS[kind](op, a), b), inputs=2)
    (site,) = sites(model)
    if kind == "sigmoid":
        assert (site.kind, [value.name for value in site.inputs]) == ("glu", ["y", "x"])
    else:
        assert site.kind == gated.get(kind, kind)


def test_hardsigmoid_is_found_with_its_slope():
    model = drawn(lambda op, x: op.Clip(op.Add(op.Mul(x, 0.25), 0.5), 0.0, 1.0))
    assert found(model) == [("hardsigmoid", {"alpha": 0.25, "beta": 0.5})]


def test_clip_with_attributes_is_found():
    assert found(drawn(lambda op, x: op.Clip(x, min=0.0, max=6.0), opset=7)) == [("relu6", {})]


STANDARD = {
    "swish": (24, "Swish", {"alpha": 1.702}, {"alpha": 1.702}),
    "gelu": (20, "Gelu", {}, {}),
    "gelu-tanh": (20, "Gelu", {"approximate": "tanh"}, {}),
    "mish": (18, "Mish", {}, {}),
    "hardswish": (14, "HardSwish", {}, {}),
    "hardsigmoid": (6, "HardSigmoid", {}, {"alpha": 0.2, "beta": 0.5}),
    "leaky-relu": (16, "LeakyRelu", {"alpha": 0.2}, {"alpha": 0.2}),
    "elu": (6, "Elu", {}, {"alpha": 1.0}),
    "selu": (6, "Selu", {}, {}),
    "softplus": (1, "Softplus", {}, {}),
    "tanh": (6, "Tanh", {}, {}),
}


@pytest.mark.parametrize("kind", STANDARD)
def test_standard_operators_are_found(kind):
    opset, op_type, attributes, reals = STANDARD[kind]
    (site,) = sites(drawn(lambda op, x: op.node(op_type, [x], **attributes), opset=max(opset, 7)))
    assert (site.kind, site.written, dict(site.reals)) == (kind, "standard", reals)


def test_standard_swiglu_is_found():
    model = drawn(lambda op, a, b: op.SwiGLU(a, b, alpha=2.0), inputs=2, opset=28)
    (site,) = sites(model)
    assert (site.kind, dict(site.reals)) == ("swiglu-linear", {"alpha": 2.0})
    assert site.written == "standard"


CONTRIB = {
    "QuickGelu": ("swish", {"alpha": 1.702}),
    "Gelu": ("gelu", {}),
    "FastGelu": ("gelu-tanh", {}),
}


@pytest.mark.parametrize("op_type", CONTRIB)
def test_operators_of_onnx_runtime_are_found(op_type):
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.node(op_type, [x], domain="com.microsoft"))
    (site,) = sites(drawing.model(domains=["com.microsoft"]))
    assert (site.kind, dict(site.reals)) == CONTRIB[op_type]
    assert site.written == "contrib"


BIASED = {"FastGelu": "gelu-tanh", "BiasGelu": "gelu"}


def _biased(op_type, bias="row", *, gated=False):
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    given = {
        "row": lambda: drawing.tensor(np.array([1, -2, 3, 0.5], np.float32)),
        "zeros": lambda: drawing.tensor(np.zeros(4, np.float32)),
        "computed": lambda: drawing.ReduceMean(y, axes=[0], keepdims=0),
    }[bias]()
    made = drawing.node(op_type, [x, given], domain="com.microsoft")
    drawing.output(drawing.Mul(made, y) if gated else made, "out")
    return drawing.model(domains=["com.microsoft"])


@pytest.mark.parametrize("bias", ["row", "zeros", "computed"])
@pytest.mark.parametrize("op_type", BIASED)
def test_contributed_gelus_of_a_sum_are_found(op_type, bias):
    (site,) = sites(_biased(op_type, bias))
    assert (site.kind, site.written) == (BIASED[op_type], "contrib")
    assert [value.name for value in site.inputs] == ["x"]
    assert [*site.biases] == [*site.inputs]


@pytest.mark.parametrize("op_type", BIASED)
def test_a_gated_gelu_of_a_sum_is_found(op_type):
    (site,) = sites(_biased(op_type, gated=True))
    assert site.kind == {"FastGelu": "geglu-tanh", "BiasGelu": "geglu"}[op_type]
    assert [value.name for value in site.inputs] == ["x", "y"]
    assert [value.name for value in site.biases] == ["x"]


def test_a_gelu_of_a_sum_is_no_function_of_what_the_sum_is_made_of():
    drawing = Drawing()
    x = drawing.input("x")
    made = drawing.node("BiasGelu", [drawing.Relu(x), x], domain="com.microsoft")
    drawing.output(drawing.Mul(made, x), "out")
    model = drawing.model(domains=["com.microsoft"])
    assert [site.kind for site in sites(model)] == ["relu", "geglu"]


@pytest.mark.parametrize(
    ("attributes", "alpha"),
    [
        ({}, 1.0),
        ({"activation_alpha": 1.702}, 1.702),
        ({"activation_beta": 1.0}, None),
        ({"limit": 7.0}, None),
        ({"round_activation": 1}, None),
    ],
)
def test_swiglu_of_onnx_runtime_is_found_where_it_clamps_nothing(attributes, alpha):
    drawing = Drawing()
    a, b = drawing.input("a"), drawing.input("b")
    drawing.output(drawing.node("SwiGLU", [a, b], domain="com.microsoft", **attributes))
    expected = [] if alpha is None else [("swiglu-linear", {"alpha": alpha})]
    assert found(drawing.model(domains=["com.microsoft"])) == expected


def test_our_own_graphs_are_found_in_both_forms(case, exported, dtype):
    activation, operator = case
    stem = activation.stem(operator)
    kind = {"geglu-none": "geglu"}.get(stem, stem)
    # Not the shared one: inference gives names to what has none.
    model = ir.from_proto(ir.to_proto(exported(stem)["value", dtype]))
    if stem == "bilinear":
        assert found(model) == found(decomposed(model)) == []
        return
    reals = KINDS[kind].reals
    for form, written in ((model, "function"), (decomposed(model), "decomposed")):
        (site,) = sites(form)
        assert (site.kind, dict(site.reals)) == (kind, reals)
        assert site.written in {written, "standard"}
        assert set(site.parameters) == set(reals)


def test_our_node_is_found_without_its_function():
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.node("Swish", [x], domain="ai.gatewave", alpha=1.5))
    (site,) = sites(drawing.model(domains=["ai.gatewave"]))
    assert (site.kind, dict(site.reals), site.written) == ("swish", {"alpha": 1.5}, "operator")


def _function(write, inputs):
    body = Drawing(style="node")
    values = [ir.Value(name=name) for name in "ab"[:inputs]]
    result = write(body, *values)
    graph = ir.Graph(values, [result], nodes=body.nodes, opset_imports={"": 18})
    return ir.Function("some.package", "Activation", graph=graph, attributes=[])


@pytest.mark.parametrize("inputs", [1, 2])
def test_functions_are_found_at_their_calls_and_not_inside(inputs):
    def write(op, a, b=None):
        swish = op.Mul(a, op.Sigmoid(a))
        return swish if b is None else op.Mul(b, swish)

    drawing = Drawing()
    values = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(drawing.node("Activation", values, domain="some.package"))
    model = drawing.model([_function(write, inputs)], ["some.package"])
    (site,) = sites(model)
    assert (site.kind, site.written) == (("swish", "swiglu-linear")[inputs - 1], "function")
    assert list(site.inputs) == list(model.graph.inputs)


def test_an_activation_inside_a_larger_function_is_found_there():
    def write(op, a):
        return op.Softmax(op.Mul(a, op.Sigmoid(a)))

    drawing = Drawing()
    drawing.output(drawing.node("Activation", [drawing.input("x")], domain="some.package"))
    (site,) = sites(drawing.model([_function(write, 1)], ["some.package"]))
    assert (site.kind, site.scope.name) == ("swish", "function some.package::Activation")


def _calling(name, write):
    """Return a function of one input in the domain ``some.package``."""
    body, x = Drawing(style="node"), ir.Value(name="x")
    result = write(body, x)
    imports = {"": 18, "some.package": 1}
    graph = ir.Graph([x], [result], nodes=body.nodes, opset_imports=imports)
    return ir.Function("some.package", name, graph=graph, attributes=[])


def _levels(levels, calls):
    """Return a model of nested functions: each calls the previous one ``calls`` times; F0 is σ."""

    def level(number):
        def write(op, x):
            for _ in range(calls):
                x = op.node(f"F{number - 1}", [x], domain="some.package")
            return x

        return write

    functions = [_calling("F0", lambda op, x: op.Sigmoid(x))]
    functions += [_calling(f"F{n}", level(n)) for n in range(1, levels)]
    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.node(f"F{levels - 1}", [x], domain="some.package"))
    return drawing.model(functions, ["some.package"])


def test_functions_that_call_others_are_looked_into_so_far():
    assert found(_levels(8, 1)) == [("sigmoid", {})]
    surveyed = sites(_levels(400, 1))
    assert {site.kind for site in surveyed} == {"sigmoid"}


def test_functions_are_read_once_however_often_they_are_called():
    model = _levels(40, 2)  # the last one holds 2 to the power of 39 sigmoids
    reader = ExpressionReader.of(model.graph, model.functions)
    assert reader.elementwise(model.graph.outputs[0]) is None


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_function_of_our_domain_is_what_it_does(inputs):
    op_type = ("Swish", "SwiGLULinear")[inputs - 1]
    body = Drawing(style="node")
    values = [ir.Value(name=name) for name in "ab"[:inputs]]
    result = body.Mul(body.Neg(values[0]), values[-1])
    graph = ir.Graph(values, [result], nodes=body.nodes, opset_imports={"": 18})
    other = ir.Function("ai.gatewave", op_type, graph=graph, attributes=[])
    drawing = Drawing()
    given = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(drawing.node(op_type, given, domain="ai.gatewave"))
    assert found(drawing.model([other], ["ai.gatewave"])) == []


def test_bodies_are_searched_and_outer_values_are_their_inputs():
    drawing = Drawing()
    x = drawing.input("x")
    inner = Drawing(style="node")
    outer = drawing.Neg(x)
    result = inner.output(inner.Mul(outer, inner.Sigmoid(outer)), "inner")
    branch = ir.Graph([], [result], nodes=inner.nodes, name="branch")
    other = Drawing()
    same = ir.Graph([], [other.output(other.Identity(x), "same")], nodes=other.nodes, name="other")
    condition = drawing.tensor(np.array(True))
    drawing.output(drawing.If(condition, then_branch=branch, else_branch=same))
    (site,) = sites(drawing.model())
    assert (site.kind, site.scope.name) == ("swish", "If_1/then_branch")
    assert site.inputs[0].name == outer.name


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
def test_layouts_are_told_apart(packing, gate):
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
def test_halves_are_told_apart_however_they_are_counted(written, gate):
    size, write = HALVES[written]
    drawing = Drawing()
    parts = write(drawing, drawing.input("x", ("n", *size)))
    a, b = parts if gate == "first" else reversed(parts)
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=("n", 4))
    (site,) = sites(drawing.model())
    assert (site.kind, site.layout) == ("swiglu-linear", f"packed halves, gate {gate}")


def test_computed_halves_are_equal():
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
def test_what_are_no_halves_are_separate(written):
    size, write = NO_HALVES[written]
    drawing = Drawing()
    a, b = write(drawing, drawing.input("x", (4, size)))
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=("n", "m"))
    assert {site.layout for site in sites(drawing.model())} <= {"separate", ""}


@pytest.mark.parametrize(("index", "gate"), [((0, 1), "first"), ((-1, -2), "last")])
def test_pairs_may_be_counted_from_the_end(index, gate):
    drawing = Drawing()
    pairs = drawing.Reshape(drawing.input("x", (3, 8)), drawing.tensor(np.array([3, 4, 2])))
    a, b = (drawing.Gather(pairs, drawing.tensor(np.array(n)), axis=-1) for n in index)
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=(3, 4))
    (site,) = sites(drawing.model())
    assert site.layout == f"interleaved, gate {gate}"


def test_attributes_of_old_opsets_are_read():
    drawing = Drawing(opset=7)
    x = drawing.input("x", (3, 8))
    a, b = (drawing.Slice(x, axes=[1], starts=[n], ends=[n + 4]) for n in (0, 4))
    drawing.output(drawing.Mul(drawing.Mul(a, drawing.Sigmoid(a)), b), shape=(3, 4))
    (site,) = sites(drawing.model(ir_version=3))
    assert site.layout == "packed halves, gate first"


NOT_ONE = {
    "another constant in sinc": lambda op, x: _sinc(op, x, pi=3.1416),
    "another condition in sinc": lambda op, x: _sinc(
        op, x, condition=lambda op, x, _: op.Equal(x, 0.1234)
    ),
    "a condition that is no line": lambda op, x: op.Where(
        op.Equal(op.Exp(x), 5.0), 1.0, op.Mul(x, op.Sigmoid(x))
    ),
    "both inputs one": lambda op, x: op.Mul(op.Mul(x, op.Sigmoid(x)), x),
    "a narrow exception": lambda op, x: op.Where(
        op.Less(op.Abs(op.Sub(x, 0.625)), 0.01), 1.0, op.Mul(x, op.Sigmoid(x))
    ),
    "a one-sided condition": lambda op, x: _sinc(
        op, x, condition=lambda op, x, _: op.Less(x, 1e-6)
    ),
    "too wide a guard": lambda op, x: _sinc(
        op, x, condition=lambda op, x, _: op.Less(op.Abs(x), 0.01)
    ),
    "an unguarded sinc": lambda op, x: op.Div(op.Sin(op.Mul(x, math.pi)), op.Mul(x, math.pi)),
    "exp(-x)+2": lambda op, x: op.Div(x, op.Add(op.Exp(op.Neg(x)), 2.0)),
    "another root in gelu": lambda op, x: op.Mul(
        op.Mul(x, 0.5), op.Add(op.Erf(op.Div(x, 1.4142)), 1.0)
    ),
    "another cubic in gelu": lambda op, x: op.Mul(
        op.Mul(0.5, x),
        op.Add(1.0, op.Tanh(op.Mul(GELU_SLOPE, op.Add(x, op.Mul(0.0447, op.Pow(x, 3.0)))))),
    ),
    "x·x": lambda op, x: op.Mul(x, x),
    "clipped": lambda op, x: op.Clip(x, -1.0, 6.5),
    "x·exp(x)": lambda op, x: op.Mul(x, op.Exp(x)),
}


GUARDS = {
    "added": lambda op, y, least: op.Add(y, least),
    "the least": lambda op, y, least: op.Max(y, least),
    "clipped": lambda op, y, least: op.Clip(y, least),
}

GUARDED = {
    "relu": lambda op, x: op.Relu(x),
    "sigmoid": lambda op, x: op.Sigmoid(x),
    "sigmoid by tanh": lambda op, x: op.Mul(0.5, op.Add(1.0, op.Tanh(op.Div(x, 2.0)))),
    "softplus": lambda op, x: op.Softplus(x),
    "softplus by log": lambda op, x: op.Log(op.Add(op.Exp(x), 1.0)),
    "swish": lambda op, x: op.Mul(x, op.Sigmoid(x)),
}


@pytest.mark.parametrize("least", [1e-9, 1e-12, 1e-13, 1e-20, 1e-30])
@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("kind", GUARDED)
def test_a_guard_against_zero_is_no_part_of_an_activation(kind, guard, least):
    # A division or a logarithm comes after it: what is nearly 0 is not 0.
    model = drawn(lambda op, x: op.Log(GUARDS[guard](op, GUARDED[kind](op, x), least)))
    (site,) = sites(model)
    assert site.kind == kind.split()[0]
    assert {node.op_type for node in site.nodes} & {"Max", "Clip"} == set()
    assert len(site.nodes) == len(drawn(GUARDED[kind]).graph)


@pytest.mark.parametrize("least", [1e-12, 1e-30])
@pytest.mark.parametrize("kind", GUARDED)
def test_a_guard_in_a_function_is_no_part_of_an_activation(kind, least):
    def write(op, x):
        return op.Max(GUARDED[kind](op, x), least)

    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.Log(drawing.node("Activation", [x], domain="some.package")))
    model = drawing.model([_function(write, 1)], ["some.package"])
    assert {site.scope.name for site in sites(model)} == {"function some.package::Activation"}


@pytest.mark.parametrize("least", [1e-12, 1e-30])
def test_a_value_kept_from_zero_is_no_relu(least):
    assert found(drawn(lambda op, x: op.Reciprocal(op.Clip(x, least)))) == []
    assert found(drawn(lambda op, x: op.Reciprocal(op.Clip(x, 0.0)))) == [("relu", {})]


@pytest.mark.parametrize("limit", [20.0, 30.0, 100.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_clamped_gate_makes_no_swish(limit, dtype):
    # σ(-30) is 1e-13: times -1e15 it is no 0.
    def write(op, x):
        return op.Mul(x, op.Sigmoid(op.Clip(x, -limit, limit)))

    assert "swish" not in {kind for kind, _ in found(drawn(write, dtype=dtype))}


def test_a_branch_for_nan_alone_is_no_part_of_an_activation():
    def write(op, x):
        return op.Where(op.Equal(x, x), op.Mul(x, op.Sigmoid(x)), 0.0)

    (site,) = sites(drawn(write))
    assert (site.kind, site.root.op_type) == ("swish", "Mul")


def test_a_gelu_of_another_form_is_none():
    model = drawn(lambda op, x: op.Gelu(x, approximate="sigmoid"), opset=20)
    assert found(model) == []


UNSOUND = {
    "the greatest of nothing": lambda op, x: op.Mul(x, op.Add(op.Sigmoid(x), op.Max())),
    "a choice of nothing": lambda op, x: op.node("Where", [op.Sigmoid(x)]),
    "a sum of three": lambda op, x: op.Mul(x, op.node("Add", [op.Sigmoid(x), x, x])),
    "the opposite of two": lambda op, x: op.Mul(x, op.node("Neg", [op.Sigmoid(x), x])),
    "a great power": lambda op, x: op.Mul(
        op.Sigmoid(x), op.node("FastGelu", [op.number(1e38)], domain="com.microsoft")
    ),
}


@pytest.mark.parametrize("unsound", UNSOUND)
def test_operators_with_wrong_inputs_are_no_part_of_anything(unsound):
    model = drawn(UNSOUND[unsound])
    assert {kind for kind, _ in found(model)} <= {"sigmoid"}
    assert found(drawn(GUARDED["swish"])) == [("swish", {"alpha": 1.0})]


@pytest.mark.parametrize("wrong", NOT_ONE)
def test_what_computes_something_else_is_not_found(wrong):
    # What it is made of may be one by itself.
    assert {kind for kind, _ in found(drawn(NOT_ONE[wrong]))} <= {"tanh", "hardsigmoid", "swish"}
    assert "out" not in {site.output.name for site in sites(drawn(NOT_ONE[wrong]))}


def _swish(op, x):
    return op.Mul(x, op.Sigmoid(x))


def _bumped(op, x, square, width):
    """Write Swish plus a triangle at x² = ``square``, of width 1 / ``width`` in x²."""
    far = op.Abs(op.Sub(op.Mul(x, x), square))
    return op.Add(_swish(op, x), op.Mul(1000.0, op.Max(op.Sub(1.0, op.Mul(far, width)), 0.0)))


def _steps(op, x):
    return op.Add(_swish(op, x), op.Floor(op.Mul(op.Mul(x, x), 1e-6)))


def _bends_again(op, x):
    bent = op.Max(op.Sub(x, 1000.0), 0.0)
    return op.Add(op.Relu(x), op.Max(op.Sub(bent, 5e6), 0.0))


FAR_OFF = {
    "a bump far out": lambda op, x: _bumped(op, x, 40200.0, 0.01),
    "a narrow bump": lambda op, x: _bumped(op, x, 40200.0, 1.0),
    "a bump between the points": lambda op, x: _bumped(op, x, 1700.0, 10.0),
    "a bump beyond the fine grid": lambda op, x: _bumped(op, x, 1e14, 1e-6),
    "a square": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), 0.0, _swish(op, x)),
    "a small square": lambda op, x: op.Where(op.Less(op.Mul(x, x), 1e-30), 1.0, _swish(op, x)),
    "another number": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), 1e6, op.Relu(x)),
    "no number": lambda op, x: op.Where(op.Greater(op.Mul(x, x), 1e6), math.inf, op.Relu(x)),
    "an exponential": lambda op, x: op.Where(op.Greater(op.Exp(x), 1e37), -7.0, op.Relu(x)),
    "a limit": lambda op, x: op.Add(
        _swish(op, x), op.Sub(op.Pow(x, 3.0), op.Clip(op.Pow(x, 3.0), -1e9, 1e9))
    ),
    "an equality": lambda op, x: op.Where(op.Equal(op.Exp(x), 1e30), 1.0, _swish(op, x)),
    "steps": _steps,
    "a power": lambda op, x: op.Add(_swish(op, x), op.Mul(op.Pow(x, 8.0), 1e-30)),
    "a bend behind a bend": _bends_again,
    "waves": lambda op, x: op.Add(
        _swish(op, x), op.Mul(op.Max(op.Sub(op.Sin(op.Mul(x, 0.02)), 0.95), 0.0), 0.1)
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wrong", FAR_OFF)
def test_what_is_another_function_far_out_is_not_found(wrong, dtype):
    model = drawn(FAR_OFF[wrong], dtype=dtype)
    assert "out" not in {site.output.name for site in sites(model)}


def _unsure(op, x):
    """Write log(1 + exp(x)), or x if exp(x) is large: both are equal from 40 on."""
    grown = op.Exp(x)
    return op.Where(op.Less(grown, 1e30), op.Log(op.Add(1.0, grown)), x)


BRANCHING = {
    "softplus, by the exponential": (_unsure, "softplus"),
    "swish, by what it is": (
        lambda op, x: op.Max(_swish(op, x), -0.5),
        "swish",
    ),
    "relu, by its square": (
        lambda op, x: op.Where(op.Less(op.Mul(op.Abs(x), x), 0.0), 0.0, x),
        "relu",
    ),
    "hardswish, of two bends": (
        lambda op, x: op.Mul(
            x, op.Div(op.Sub(op.Relu(op.Add(x, 3.0)), op.Relu(op.Sub(x, 3.0))), 6.0)
        ),
        "hardswish",
    ),
    "sigmoid, kept in its range": (lambda op, x: op.Clip(op.Sigmoid(x), 0.0, 1.0), "sigmoid"),
    "tanh, kept in its range": (lambda op, x: op.Clip(op.Tanh(x), -1.0, 1.0), "tanh"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("written", BRANCHING)
def test_branches_that_agree_are_one_function(written, dtype):
    write, kind = BRANCHING[written]
    assert [found for found, _ in found(drawn(write, dtype=dtype))] == [kind]


def test_hardswish_is_no_swish():
    model = drawn(lambda op, x: op.Mul(x, op.HardSigmoid(x, alpha=1 / 6)))
    assert found(model) == [("hardswish", {})]


def test_a_gate_of_another_value_makes_a_glu():
    assert found(drawn(lambda op, a, b: op.Mul(a, op.Sigmoid(b)), inputs=2)) == [("glu", {})]


def test_an_intermediate_that_is_an_output_stays():
    drawing = Drawing()
    x = drawing.input("x")
    gate = drawing.output(drawing.Sigmoid(x), "gate")
    drawing.output(drawing.Mul(x, gate), "out")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sigmoid"]
    assert [miss.reason for miss in surveyed.near_misses] == [
        "gate, inside it, is an output of the graph"
    ]


def test_an_intermediate_with_another_use_stays():
    drawing = Drawing()
    x = drawing.input("x")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "out")
    drawing.output(drawing.Softmax(gate), "other")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["sigmoid"]
    assert "is used by Softmax_2 too" in surveyed.near_misses[0].reason


@pytest.mark.parametrize("used", [False, True])
def test_a_constant_with_the_type_of_an_intermediate_is_no_use_of_it(used):
    # As Torch writes x·tanh(softplus(x)), if it does not optimize: softplus has a threshold.
    drawing = Drawing(opset=18)
    x = drawing.input("x")
    scaled = drawing.Mul(x, 1.0)
    threshold = drawing.CastLike(drawing.number(20.0, "float64"), scaled)
    steep = drawing.Greater(scaled, threshold)
    softplus = drawing.Where(steep, x, drawing.Div(drawing.Softplus(scaled), 1.0))
    drawing.output(drawing.Mul(x, drawing.Tanh(softplus)), "out")
    if used:
        drawing.output(threshold, "threshold", shape=())
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites if site.output.name == "out"] == ["mish"] * (
        not used
    )


def test_an_intermediate_of_two_activations_is_found_in_both():
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    gate = drawing.Sigmoid(x)
    drawing.output(drawing.Mul(x, gate), "one")
    drawing.output(drawing.Mul(y, gate), "two")
    assert found(drawing.model()) == [("swish", {"alpha": 1.0}), ("glu", {})]


def test_a_swish_with_another_use_is_found_without_its_gate():
    drawing = Drawing()
    x, y = drawing.input("x"), drawing.input("y")
    swish = drawing.Mul(x, drawing.Sigmoid(x))
    drawing.output(drawing.Mul(swish, y), "one")
    drawing.output(drawing.Softmax(swish), "two")
    surveyed = survey(drawing.model())
    assert [site.kind for site in surveyed.sites] == ["swish"]
    assert [miss.site.kind for miss in surveyed.near_misses] == ["swiglu-linear"]


def test_a_gate_of_another_shape_makes_no_gated_unit():
    drawing = Drawing(shape=(3, 4))
    a, b = drawing.input("a"), drawing.input("b", (3, 1))
    drawing.output(drawing.Mul(a, drawing.Sigmoid(b)))
    assert found(drawing.model()) == [("sigmoid", {})]


def test_a_constant_with_more_axes_than_the_input_makes_no_activation():
    drawing = Drawing(shape=(4,))
    x = drawing.input("x")
    alpha = drawing.tensor(np.array([[1.5]], np.float32))
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha))), shape=(1, 4))
    assert found(drawing.model()) == [("sigmoid", {})]


def _called(write, inputs=1, depth=1):
    """Return a model with ``depth`` nested calls; ``write`` draws the innermost function."""
    first = _function(write, inputs)
    first.name = "F0"
    others = [_calling(f"F{level}", _call_of(f"F{level - 1}")) for level in range(1, depth)]
    drawing = Drawing()
    values = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(_call_of(f"F{depth - 1}")(drawing, *values), shape=("k", 4))
    return drawing.model([first, *others], ["some.package"])


def _call_of(name):
    return lambda op, *values: op.node(name, values, domain="some.package")


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(
    ("shape", "kinds"), [((), ["swish"]), ((1,), ["swish"]), ((4, 1), []), ((1, 1, 1), [])]
)
def test_a_constant_in_a_function_may_change_a_shape(shape, kinds, depth):
    def write(op, x):
        one = op.tensor(np.ones(shape, np.float32))
        return op.Mul(x, op.Mul(op.Sigmoid(x), one))

    surveyed = sites(_called(write, depth=depth))
    assert [site.kind for site in surveyed if site.scope.name == ""] == kinds


@pytest.mark.parametrize("shape", [(), (4, 1)])
def test_a_function_of_our_domain_leaves_the_shape_as_it_is(shape):
    def write(op, x):
        return op.Mul(x, op.Mul(op.Sigmoid(x), op.tensor(np.ones(shape, np.float32))))

    function = _function(write, 1)
    function.domain, function.name = "ai.gatewave", "Swish"
    drawing = Drawing()
    drawing.output(drawing.node("Swish", [drawing.input("x")], domain="ai.gatewave"))
    assert len(found(drawing.model([function], ["ai.gatewave"]))) == (shape == ())


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("dtype", "kinds"), [("float16", []), ("float64", ["swish"])])
def test_a_narrowing_cast_in_a_function_makes_another_function(dtype, kinds, depth):
    def write(op, x):
        one = op.cast(op.cast(op.number(1.0), "float16"), "float32")
        sigmoid = op.Sigmoid(op.cast(x, dtype))
        return op.Mul(op.Mul(x, op.cast(sigmoid, "float32")), one)

    surveyed = sites(_called(write, depth=depth))
    assert [site.kind for site in surveyed if site.scope.name == ""] == kinds


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_hole_in_a_function_is_a_hole_of_its_calls(inputs):
    def write(op, a, b=None):
        swish = op.Div(op.Mul(op.Mul(a, op.Sigmoid(a)), a), a)
        return swish if b is None else op.Mul(swish, b)

    surveyed = survey(_called(write, inputs))
    assert [site for site in surveyed.sites if not site.scope.name] == []
    assert [miss.reason for miss in surveyed.near_misses if not miss.site.scope.name] == [HOLE]


@pytest.mark.parametrize("axes", [0, 1])
def test_a_constant_with_axes_may_change_a_shape_that_is_not_known(axes):
    drawing = Drawing()
    inner = drawing.node("Unknown", [drawing.input("x")], domain="some.where")
    inner.type = ir.TensorType(ir.DataType.FLOAT)
    alpha = drawing.tensor(np.full((1,) * axes, 1.5, np.float32))
    swish = drawing.Mul(inner, drawing.Sigmoid(drawing.Mul(inner, alpha)))
    drawing.output(drawing.Softmax(swish))
    (site,) = sites(drawing.model(domains=["some.where"]))
    assert (site.kind, site.doubt == "") == ("swish", axes == 0)


@pytest.mark.parametrize("size", [1, "m"])
def test_one_number_in_many_places_may_change_a_shape(size):
    drawing = Drawing(shape=("n", size))
    x = drawing.input("x")
    four = drawing.tensor(np.array([1, 4]))
    alpha = drawing.Expand(drawing.tensor(np.array([1.5], np.float32)), four)
    alpha.type, alpha.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 4])
    result = drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha)))
    drawing.output(result, "out", ("n", "k"))
    assert "swish" not in {kind for kind, _ in found(drawing.model())}


ONES = {
    "a tensor": lambda op: op.tensor(np.ones((2, 8), np.float32)),
    "ConstantOfShape": lambda op: op.ConstantOfShape(
        op.tensor(np.array([2, 8])), value=ir.tensor(np.array([1], np.float32))
    ),
    "Expand": lambda op: op.Expand(op.number(1.0), op.tensor(np.array([2, 8]))),
}


@pytest.mark.parametrize("ones", ONES)
def test_ones_of_the_whole_shape_are_1(ones):
    def sinc(op, x):
        pi_x = op.Mul(x, math.pi)
        return op.Where(op.Equal(x, 0.0), ONES[ones](op), op.Div(op.Sin(pi_x), pi_x))

    def swish(op, x):
        return op.Div(x, op.Add(ONES[ones](op), op.Exp(op.Neg(x))))

    assert found(drawn(sinc, shape=(2, 8))) == [("sinc", {})]
    assert found(drawn(swish, shape=(2, 8))) == [("swish", {"alpha": 1.0})]


def test_a_row_of_weights_that_are_all_1_stays():
    def write(op, x):
        weighted = op.Mul(x, op.tensor(np.ones(8, np.float32)))
        return op.Mul(weighted, op.Sigmoid(weighted))

    (site,) = sites(drawn(write, shape=(2, 8)))
    assert [node.op_type for node in site.nodes] == ["Sigmoid", "Mul"]


OF_INTEGERS = {
    "3 // 2": (lambda op, n: op.Div(n(3), n(2)), None),
    "0 // 2 + 3": (lambda op, n: op.Add(op.Div(n(0), n(2)), n(3)), None),
    "1 + 2": (lambda op, n: op.Add(n(1), n(2)), 3.0),
    "2 ** 3": (lambda op, n: op.Pow(op.number(2.0), n(3)), 8.0),
    "bool(2)": (lambda op, n: op.node("Cast", [n(2)], to=ir.DataType.BOOL.value), 1.0),
    "bool(2.5)": (lambda op, _: op.node("Cast", [2.5], to=ir.DataType.BOOL.value), 1.0),
    "int(2.5)": (lambda op, _: op.node("Cast", [2.5], to=ir.DataType.INT64.value), None),
    "2 ** 62 + 1": (lambda op, n: op.Add(n(2**62), n(1)), None),
}


@pytest.mark.parametrize("written", OF_INTEGERS)
def test_integers_are_computed_as_integers(written):
    make, alpha = OF_INTEGERS[written]

    def write(op, x):
        integers = make(op, lambda n: op.tensor(np.array(n, np.int64)))
        return op.Mul(x, op.Sigmoid(op.Mul(x, op.cast(integers, "float32"))))

    kinds = dict(found(drawn(write)))
    assert kinds.get("swish") == (None if alpha is None else {"alpha": alpha})


def test_constants_of_many_paths_are_found_at_once():
    # 4 to the power of 14: too many to go through each.
    def write(op, x):
        number = op.number(1.0)
        for _ in range(14):
            number = op.Mul(op.Sum(number, number, number, number), 0.25)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    assert [kind for kind, _ in found(drawn(write))] == ["glu"]  # too deep to be followed

    def write_less(op, x):
        number = op.number(1.0)
        for _ in range(14):
            number = op.Sum(number, number)
        return op.Mul(x, op.Sigmoid(op.Mul(x, number)))

    assert found(drawn(write_less)) == [("swish", {"alpha": 2.0**14})]


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_scalar_input_is_alpha_only_where_alpha_is(place):
    drawing = Drawing()
    x = drawing.input("x")
    alpha = drawing.tensor(np.array(1.0, np.float32))
    drawing.inputs.append(alpha)
    if place == "inside":
        result = drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha)))
    else:
        result = drawing.Mul(drawing.Mul(x, drawing.Sigmoid(x)), alpha)
    drawing.output(result, "out")
    (site,) = sites(drawing.model())
    assert (site.kind, site.output.name == "out") == ("swish", place == "inside")
    assert [*site.parameters] == (["alpha"] if place == "inside" else [])


ALPHAS = {
    "its magnitude": (lambda op, alpha: op.Abs(alpha), 1.5),
    "its positive part": (lambda op, alpha: op.Relu(alpha), -1.0),
    "clipped": (lambda op, alpha: op.Clip(alpha, -2.0, 2.0), 1.0),
    "or 1": (lambda op, alpha: op.Where(op.Equal(alpha, 0.0), 1.0, alpha), 1.5),
    "of its default alone": (
        lambda op, alpha: op.Where(op.Equal(alpha, 7.0), 1.0, alpha),
        7.0,
    ),
}


@pytest.mark.parametrize("made", ALPHAS)
def test_a_scalar_that_alpha_is_made_of_is_not_alpha(made):
    make, default = ALPHAS[made]
    drawing = Drawing()
    x = drawing.input("x")
    given = drawing.tensor(np.array(default, np.float32))
    drawing.inputs.append(given)
    alpha = make(drawing, given)
    drawing.output(drawing.Mul(x, drawing.Sigmoid(drawing.Mul(x, alpha))), "out")
    assert "swish" not in {kind for kind, _ in found(drawing.model())}


@pytest.mark.parametrize("narrow", ["float16", "int32"])
def test_a_narrowing_cast_inside_makes_another_function(narrow):
    def write(op, x):
        kind = {"float16": ir.DataType.FLOAT16, "int32": ir.DataType.INT32}[narrow]
        less = op.node("Cast", [x], to=kind.value)
        return op.Mul(x, op.Sigmoid(op.cast(less, "float32")))

    assert found(drawn(write)) == [("sigmoid", {})]


WEIGHTED = {
    "times a row": lambda op, x, row: op.Mul(x, row),
    "times a row that a caller may give": lambda op, x, row: (
        op.inputs.append(row) or op.Mul(row, x)
    ),
    "and a row more": lambda op, x, row: op.Add(op.Mul(x, row), row),
    "divided by what a row is made to": lambda op, x, row: op.Div(x, op.Exp(row)),
    "kept small": lambda op, x, _: op.Clip(x, -30.0, 30.0),
}


@pytest.mark.parametrize("written", WEIGHTED)
def test_a_gate_of_the_value_itself_and_weights_makes_no_glu(written):
    drawing = Drawing()
    x = drawing.input("x")
    row = drawing.tensor(np.array([1, 2, 3, 4], np.float32))
    gate = drawing.Sigmoid(WEIGHTED[written](drawing, x, row))
    drawing.output(drawing.Mul(x, gate))
    assert found(drawing.model()) == [("sigmoid", {})]


def test_a_gate_that_another_input_has_moved_makes_a_glu():
    def write(op, x, y):
        return op.Mul(x, op.Sigmoid(op.Add(op.Mul(x, 2.0), y)))

    assert found(drawn(write, inputs=2)) == [("glu", {})]
