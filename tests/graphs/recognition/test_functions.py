"""Activations in model-local functions and in the bodies of nodes."""

import numpy as np
import onnx_ir as ir
import pytest
from drawing import Drawing
from recognised import GUARDED, found, function_of

from gatewave.graphs.recognition.expressions import ExpressionReader
from gatewave.graphs.recognition.sites import NAN_AT_ZERO, sites, survey


@pytest.mark.parametrize("inputs", [1, 2])
def test_function_is_found_at_its_call(inputs):
    def write(op, a, b=None):
        swish = op.Mul(a, op.Sigmoid(a))
        return swish if b is None else op.Mul(b, swish)

    drawing = Drawing()
    values = [drawing.input(name) for name in "xy"[:inputs]]
    drawing.output(drawing.node("Activation", values, domain="some.package"))
    model = drawing.model([function_of(write, inputs)], ["some.package"])
    (site,) = sites(model)
    assert (site.kind, site.written) == (("swish", "swiglu-linear")[inputs - 1], "function")
    assert list(site.inputs) == list(model.graph.inputs)


def test_activation_within_a_larger_function():
    def write(op, a):
        return op.Softmax(op.Mul(a, op.Sigmoid(a)))

    drawing = Drawing()
    drawing.output(drawing.node("Activation", [drawing.input("x")], domain="some.package"))
    (site,) = sites(drawing.model([function_of(write, 1)], ["some.package"]))
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


def test_depth_of_nested_calls_is_limited():
    assert found(_levels(8, 1)) == [("sigmoid", {})]
    surveyed = sites(_levels(400, 1))
    assert {site.kind for site in surveyed} == {"sigmoid"}


def test_repeated_calls_are_read_once():
    model = _levels(40, 2)  # the last one holds 2 to the power of 39 sigmoids
    reader = ExpressionReader.of(model.graph, model.functions)
    assert reader.elementwise(model.graph.outputs[0]) is None


@pytest.mark.parametrize("inputs", [1, 2])
def test_function_overrides_our_operator(inputs):
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


def test_activation_in_a_branch_of_if():
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


@pytest.mark.parametrize("least", [1e-12, 1e-30])
@pytest.mark.parametrize("kind", GUARDED)
def test_guard_within_a_function_is_outside(kind, least):
    def write(op, x):
        return op.Max(GUARDED[kind](op, x), least)

    drawing = Drawing()
    x = drawing.input("x")
    drawing.output(drawing.Log(drawing.node("Activation", [x], domain="some.package")))
    model = drawing.model([function_of(write, 1)], ["some.package"])
    assert {site.scope.name for site in sites(model)} == {"function some.package::Activation"}


def _called(write, inputs=1, depth=1):
    """Return a model with ``depth`` nested calls; ``write`` draws the innermost function."""
    first = function_of(write, inputs)
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
def test_function_constant_may_broadcast(shape, kinds, depth):
    def write(op, x):
        one = op.tensor(np.ones(shape, np.float32))
        return op.Mul(x, op.Mul(op.Sigmoid(x), one))

    surveyed = sites(_called(write, depth=depth))
    assert [site.kind for site in surveyed if site.scope.name == ""] == kinds


@pytest.mark.parametrize("shape", [(), (4, 1)])
def test_broadcasting_function_overrides_our_operator(shape):
    def write(op, x):
        return op.Mul(x, op.Mul(op.Sigmoid(x), op.tensor(np.ones(shape, np.float32))))

    function = function_of(write, 1)
    function.domain, function.name = "ai.gatewave", "Swish"
    drawing = Drawing()
    drawing.output(drawing.node("Swish", [drawing.input("x")], domain="ai.gatewave"))
    assert len(found(drawing.model([function], ["ai.gatewave"]))) == (shape == ())


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize(("dtype", "kinds"), [("float16", []), ("float64", ["swish"])])
def test_narrowing_cast_within_a_function(dtype, kinds, depth):
    def write(op, x):
        one = op.cast(op.cast(op.number(1.0), "float16"), "float32")
        sigmoid = op.Sigmoid(op.cast(x, dtype))
        return op.Mul(op.Mul(x, op.cast(sigmoid, "float32")), one)

    surveyed = sites(_called(write, depth=depth))
    assert [site.kind for site in surveyed if site.scope.name == ""] == kinds


@pytest.mark.parametrize("inputs", [1, 2])
def test_nan_at_zero_within_a_function(inputs):
    def write(op, a, b=None):
        swish = op.Div(op.Mul(op.Mul(a, op.Sigmoid(a)), a), a)
        return swish if b is None else op.Mul(swish, b)

    surveyed = survey(_called(write, inputs))
    assert [site for site in surveyed.sites if not site.scope.name] == []
    reasons = [miss.reason for miss in surveyed.near_misses if not miss.site.scope.name]
    assert reasons == [NAN_AT_ZERO]
