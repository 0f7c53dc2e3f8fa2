"""Float64 operators that ONNX Runtime lacks, in other operators: compared with mpmath."""

import math

import mpmath
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser

from gatewave.graphs import targets
from gatewave.graphs.ops.formulas import SELU_ALPHA, SELU_GAMMA
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, GraphOps
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.verify.evaluator import evaluator
from gatewave.models import elementary

INF, NAN = math.inf, math.nan
RNG = np.random.default_rng(0)
NORMAL = np.concatenate(
    [RNG.standard_normal(60) * scale for scale in (1e-300, 1e-12, 1e-3, 0.3, 1, 5, 30, 300)]
)
WITHIN = np.concatenate([RNG.uniform(-1, 1, 300), 1 - 10.0 ** -RNG.uniform(1, 15, 50)])
BEYOND = np.concatenate([1 + 10.0 ** RNG.uniform(-15, 3, 200), 10.0 ** RNG.uniform(3, 300, 50)])


def real(value):
    """Return the value in mpmath; NaN outside the real numbers."""
    number = mpmath.mpmathify(value)
    return mpmath.nan if isinstance(number, mpmath.mpc) and number.imag else number.real


def of_module(f):
    return lambda x: real(f(x))


def elu(alpha):
    return lambda x: x if x > 0 else alpha * mpmath.expm1(x)


def selu(x):
    return mpmath.mpf(SELU_GAMMA) * elu(mpmath.mpf(SELU_ALPHA))(x)


def leaky(slope):
    return lambda x: x if x > 0 else slope * x


def celu(x):
    return x if x > 0 else 2.5 * mpmath.expm1(x / 2.5)


F32 = {"0.01": mpmath.mpf(float(np.float32(0.01))), "0.2": mpmath.mpf(float(np.float32(0.2)))}

# operator: (the function, where, units in the last place of the result that it may be off)
EXACT = {
    "Acos": (of_module(mpmath.acos), WITHIN, 3),
    "Asin": (of_module(mpmath.asin), WITHIN, 3),
    "Atan": (of_module(mpmath.atan), NORMAL, 3),
    "Acosh": (of_module(mpmath.acosh), BEYOND, 4),
    "Asinh": (of_module(mpmath.asinh), np.concatenate([NORMAL, -BEYOND]), 4),
    "Atanh": (of_module(mpmath.atanh), WITHIN, 4),
    "Cosh": (of_module(mpmath.cosh), np.append(NORMAL, 710.4), 5),
    "Sinh": (of_module(mpmath.sinh), np.append(NORMAL, -710.4), 5),
    "Erf": (of_module(mpmath.erf), NORMAL, 3),
    "Elu": (elu(1), NORMAL, 5),
    "Elu <alpha = 0.5>": (elu(0.5), NORMAL, 5),
    "Selu": (selu, NORMAL, 7),
    "Celu <alpha = 2.5>": (celu, NORMAL, 6),
    "LeakyRelu": (leaky(F32["0.01"]), NORMAL, 1),
    "ThresholdedRelu": (lambda x: x if x > 1 else 0, NORMAL, 0),
    "Softsign": (lambda x: x / (1 + abs(x)), NORMAL, 2),
    "Softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), NORMAL, 4),
    "HardSigmoid": (lambda x: max(0, min(1, F32["0.2"] * x + mpmath.mpf(0.5))), WITHIN, 2),
    "Mish": (
        lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), np.maximum(NORMAL, -700), 6
    ),
    "Mean": (lambda x: x, NORMAL, 0),
}  # fmt: skip


def unary(operator, dtype="double", opset=20):
    text = f"g ({dtype}[n] x) => ({dtype}[n] y) {{ y = {operator}(x) }}"
    return parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')


def lowered(proto, target="onnxruntime"):
    model = ir.from_proto(proto)
    assert lower(model, targets.find(target)).changes
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    return after


def run(proto, *arrays):
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, arrays, strict=True)))[0]


def ulps(got, want):
    """Return the errors against mpmath, in units in the last place."""
    nearest = np.array([float(value) for value in want])
    with np.errstate(invalid="ignore"):
        unit = np.spacing(np.abs(nearest))
    off = [float(mpmath.mpf(float(g)) - w) for g, w in zip(got, want, strict=True)]
    return np.where(got == nearest, 0, np.abs(off) / unit)


@pytest.mark.parametrize("operator", EXACT)
def test_float64_forms_are_right_by_mpmath(operator):
    function, x, bound = EXACT[operator]
    got = run(lowered(unary(operator)), x)
    with mpmath.workdps(60):
        want = [mpmath.mpf(function(mpmath.mpf(float(number)))) for number in x]
        assert ulps(got, want).max() <= bound


def test_tangent_is_as_exact_as_sine_and_cosine():
    x = NORMAL[np.abs(NORMAL) < 100]
    with mpmath.workdps(60):
        want = np.array([float(mpmath.tan(mpmath.mpf(float(number)))) for number in x])
    # Near its zeros and poles it is as far off as it moves with the last place of x.
    allowed = 1e-15 * (1 + np.abs(want)) ** 2 * np.maximum(1, np.abs(x))
    assert (np.abs(run(lowered(unary("Tan")), x) - want) <= allowed).all()


LEAST = 5e-324
AT_EDGES = {
    "Acos": [(1.0, 0.0), (-1.0, math.pi), (2.0, NAN), (NAN, NAN)],
    "Asin": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (LEAST, LEAST),
        (1.0, math.pi / 2),
        (-1.0, -math.pi / 2),
        (2.0, NAN),
    ],
    "Atan": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (LEAST, LEAST),
        (INF, math.pi / 2),
        (-INF, -math.pi / 2),
        (NAN, NAN),
    ],
    "Acosh": [(1.0, 0.0), (0.5, NAN), (-1e300, NAN), (INF, INF), (-INF, NAN), (NAN, NAN)],
    "Asinh": [(0.0, 0.0), (-0.0, -0.0), (LEAST, LEAST), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "Atanh": [
        (0.0, 0.0),
        (-0.0, -0.0),
        (LEAST, LEAST),
        (1.0, INF),
        (-1.0, -INF),
        (2.0, NAN),
        (NAN, NAN),
    ],
    "Cosh": [(0.0, 1.0), (INF, INF), (-INF, INF), (NAN, NAN), (711.0, INF)],
    "Sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (NAN, NAN), (-711.0, -INF)],
    "Tan": [(0.0, 0.0), (LEAST, LEAST), (INF, NAN), (NAN, NAN)],
    "Erf": [(0.0, 0.0), (-0.0, -0.0), (LEAST, LEAST), (INF, 1.0), (-INF, -1.0), (NAN, NAN)],
    "Elu": [(0.0, 0.0), (INF, INF), (-INF, -1.0), (NAN, NAN), (LEAST, LEAST)],
    "Selu": [(0.0, 0.0), (INF, INF), (-INF, -SELU_ALPHA * SELU_GAMMA), (NAN, NAN)],
    "Celu": [(0.0, 0.0), (INF, INF), (-INF, -1.0), (NAN, NAN)],
    "LeakyRelu": [(0.0, 0.0), (INF, INF), (-INF, -INF), (NAN, NAN)],
    "ThresholdedRelu": [(1.0, 0.0), (INF, INF), (-INF, 0.0), (NAN, 0.0)],
    "Softsign": [(0.0, 0.0), (-0.0, -0.0), (LEAST, LEAST), (1e308, 1.0), (INF, NAN), (NAN, NAN)],
    "Softplus": [
        (0.0, math.log(2)),
        (INF, INF),
        (-INF, 0.0),
        (NAN, NAN),
        (-745.0, LEAST),
        (1e308, 1e308),
    ],
    "HardSigmoid": [(INF, 1.0), (-INF, 0.0), (NAN, NAN)],
    "HardSwish": [(INF, INF), (NAN, NAN), (-3.0, 0.0)],
    "Mish": [(0.0, 0.0), (INF, INF), (NAN, NAN), (1e308, 1e308)],
    "Gelu": [(0.0, 0.0), (INF, INF), (NAN, NAN), (1e308, 1e308), (-1e308, -0.0)],
}


@pytest.mark.parametrize("operator", AT_EDGES)
def test_float64_forms_are_right_at_the_edges(operator):
    x, want = np.array(AT_EDGES[operator]).T.copy()
    got = run(lowered(unary(operator)), x)
    np.testing.assert_array_max_ulp(got[~np.isnan(want)], want[~np.isnan(want)], 1)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    zeros = want == 0
    if operator not in ("Gelu", "HardSwish"):
        np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


NAMED = ("acos", "asin", "atan", "asinh", "atanh", "cosh", "sinh", "tan", "erf")


@pytest.mark.parametrize("name", NAMED)
def test_the_same_forms_are_right_in_float32(name):
    op = GraphOps("float32", 17)
    x = ir.Value(name="x", type=ir.TensorType(ONNX_TYPES["float32"]), shape=ir.Shape(["n"]))
    y = getattr(elementary, name)(op, x)
    y.type, y.shape = x.type, x.shape
    graph = ir.Graph([x], [y], nodes=op.nodes, opset_imports={"": 17}, name="g")
    numbers = WITHIN.astype(np.float32)
    got = run(ir.to_proto(ir.Model(graph, ir_version=8)), numbers)
    function = np.vectorize(getattr(math, name), otypes=[float])
    want = function(np.clip(numbers.astype(np.float64), -1 + 1e-9, 1 - 1e-9))
    finite = np.abs(numbers) < 1
    np.testing.assert_allclose(got[finite], want[finite], rtol=2e-6)


SLOPED = """<ir_version: 8, opset_import: ["": OPSET]>
    g (KIND[n, 2] x) => (KIND[n, 2] y) <KIND[2] s = {2, 3}> { y = PRelu(x, s) }"""


def test_prelu_has_a_slope_for_each_channel():
    text = SLOPED.replace("OPSET", "20").replace("KIND", "double")
    x = np.array([[-1.5, -1.5], [2.0, -0.0], [np.nan, -np.inf]])
    want = np.array([[-3, -4.5], [2, 0], [np.nan, -np.inf]])
    np.testing.assert_array_equal(run(lowered(parser.parse_model(text)), x), want)


GELUS = {
    "Div": "d = Div (x, r) e = Erf (d) p = Add (e, o) q = Mul (x, p) y = Mul (q, h)",
    "Mul": "d = Mul (x, i) e = Erf (d) p = Add (e, o) q = Mul (h, x) y = Mul (p, q)",
}


@pytest.mark.parametrize("written", GELUS)
def test_float64_gelu_of_erf_keeps_its_tail(written):
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (double[n] x) => (double[n] y) '
        "<double r = {1.4142135623730951}, double i = {0.7071067811865476}, double o = {1}, "
        f"double h = {{0.5}}> {{ {GELUS[written]} }}"
    )
    x = np.append(NORMAL, [-8.0, -9.5])
    with mpmath.workdps(60):
        want = [mpmath.mpf(float(n)) * mpmath.ncdf(mpmath.mpf(float(n))) for n in x]
        got = run(lowered(proto), x)
        shown = np.array([float(w) for w in want])
    np.testing.assert_allclose(got, shown, rtol=1e-12, atol=1e-200)


def test_a_shared_erf_is_written_out_alone():
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (double[n] x) => (double[n] y, double[n] e) '
        "<double r = {1.4142135623730951}, double o = {1}, double h = {0.5}> "
        f"{{ {GELUS['Div']} }}"
    )
    after = lowered(proto)
    session = ort.InferenceSession(after.SerializeToString(), providers=["CPUExecutionProvider"])
    y, e = session.run(None, {"x": NORMAL})
    due = [math.erf(n / math.sqrt(2)) for n in NORMAL]
    np.testing.assert_allclose(e, due, rtol=1e-15, atol=1e-300)
    np.testing.assert_allclose(y, NORMAL * (1 + e) / 2, rtol=1e-15, atol=1e-300)


def test_a_float64_mish_of_softplus_is_one_formula():
    text = "g (double[n] x) => (double[n] y) { s = Softplus(x) t = Tanh(s) y = Mul(x, t) }"
    after = lowered(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'))
    kinds = {node.op_type for node in after.graph.node}
    assert not {"Softplus", "Tanh", "Log"} & kinds
    np.testing.assert_allclose(
        run(after, NORMAL), NORMAL * np.tanh(np.logaddexp(0, NORMAL)), rtol=1e-14, atol=1e-300
    )


def test_the_evaluator_has_a_float64_error_function():
    (y,) = evaluator(unary("Erf")).run(None, {"x": NORMAL})
    np.testing.assert_array_equal(y, [math.erf(number) for number in NORMAL])
