"""Certificates of graphs: every graph of a record gets one, and wrong graphs get none."""

import dataclasses

import numpy as np
import pytest
import torch

from gatewave.export.accuracy import certify, reference
from gatewave.export.accuracy.certify import measure
from gatewave.export.accuracy.reference import Exact
from gatewave.export.errors import ToleranceError
from gatewave.export.operators import graphs_of, to_bytes
from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.models import ACTIVATIONS, Tolerance
from gatewave.models.sinc import reduced

SINC, SWIGLU = ACTIVATIONS["sinc"], ACTIVATIONS["swiglu"]


def test_every_graph_is_within_the_tolerance_of_its_record(
    model, activation, operator, graph, dtype
):
    """The decomposed form gives the same bits: see test_operators.py."""
    for measured in certify.certify(to_bytes(model), activation, operator, graph, dtype).values():
        assert measured.used <= 1


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_all_16_bit_values_are_tried(activation, kind):
    for tensor in reference.samples(activation, "value", kind):
        assert len(tensor.view(torch.int16).unique()) == 2**16


def test_samples_reach_from_the_least_to_the_greatest_of_the_long_floats(activation):
    for kind in (torch.float32, torch.float64):
        limits = torch.finfo(kind)
        dtype = str(kind).removeprefix("torch.")
        for tensor in reference.samples(activation, "value", dtype):
            magnitudes = tensor[tensor.isfinite() & (tensor != 0)].abs()
            assert magnitudes.min() == limits.smallest_normal * limits.eps
            assert magnitudes.max() == limits.max
            assert {0.0, 1.0, 64.0} <= set(tensor.tolist())
            assert tensor.isnan().any()
            assert tensor.isinf().any()


def sinc_with_float32_pi(op, x):
    distance = op.Abs(x)
    sign, angle = reduced(op, distance)
    near = op.Less(distance, 1e-9)
    pi_x = op.Where(near, 1.0, op.Mul(distance, float(np.float32(np.pi))))
    return op.Where(near, 1.0, op.Div(op.Mul(sign, op.Sin(angle)), pi_x))


def sinc_without_range_reduction(op, x):
    near = op.Less(op.Abs(x), 1e-9)
    pi_x = op.Mul(op.Where(near, 1.0, x), np.pi)
    return op.Where(near, 1.0, op.Div(op.Sin(pi_x), pi_x))


def derivative_without_pi(op, x):
    return tuple(op.Mul(partial, 1 / np.pi) for partial in SINC.operators[0].partials(op, x))


def swiglu_with_the_linear_gate(op, a, b):
    return SWIGLU.operators[1].value(op, a, b)


BROKEN = {
    "float32-pi": (SINC, {"value": sinc_with_float32_pi}, "float64"),
    "no-range-reduction": (SINC, {"value": sinc_without_range_reduction}, "float32"),
    "derivative-without-pi": (SINC, {"partials": derivative_without_pi}, "float32"),
    "linear-gate": (SWIGLU, {"value": swiglu_with_the_linear_gate}, "float32"),
}


@pytest.fixture(params=BROKEN)
def broken(request):
    """Return a record with a wrong decomposition, and a dtype for its export."""
    activation, change, dtype = BROKEN[request.param]
    first, *rest = activation.operators
    operators = (dataclasses.replace(first, **change), *rest)
    return dataclasses.replace(activation, operators=operators), dtype


def test_a_decomposition_that_is_not_the_formula_gets_no_certificate(broken):
    activation, dtype = broken
    operator = activation.operators[0]
    model = graphs_of(activation, operator, [dtype])["grad", dtype]
    with pytest.raises(ToleranceError, match=r"is .*, not .*: .* times the error"):
        certify.certify(to_bytes(model), activation, operator, "grad", dtype)


def test_a_graph_that_differs_from_its_record_gets_no_certificate():
    def value(op, a, b):
        right = SWIGLU.operators[0].value(op, a, b)
        return op.Add(right, 1e-4) if isinstance(op, GraphOps) else right

    operator = dataclasses.replace(SWIGLU.operators[0], value=value)
    activation = dataclasses.replace(SWIGLU, operators=(operator, SWIGLU.operators[1]))
    model = graphs_of(activation, operator, ["float32"])["value", "float32"]
    with pytest.raises(ToleranceError, match="swiglu-sigmoid value float32: y at a="):
        certify.certify(to_bytes(model), activation, operator, "value", "float32")


def test_the_certificate_of_one_gate_is_refused_to_the_other(exported):
    linear = to_bytes(exported("swiglu-linear")["value", "float32"])
    with pytest.raises(ToleranceError):
        certify.certify(linear, SWIGLU, SWIGLU.operators[0], "value", "float32")


def test_a_model_that_onnx_runtime_refuses_is_named_with_its_reason(exported):
    model = exported("sinc")["value", "float32"].clone()
    model.graph.node(0).op_type = "Nonsense"
    content = to_bytes(model, checked=False)
    with pytest.raises(NotRunnableError, match=r"sinc value float32: ONNX Runtime .*Nonsense"):
        certify.certify(content, SINC, SINC.operators[0], "value", "float32")


def exactly(*values):
    high = torch.tensor(values, dtype=torch.float64)
    return Exact(high, torch.zeros_like(high))


ONE_ULP = Tolerance(ulp=1, atol=0)


def judged(got, want, *, tolerance=ONE_ULP, infinite=False):
    found = torch.tensor([got])
    scale = torch.ones(1, dtype=torch.float64)
    return measure(found, exactly(want), tolerance, scale, torch.tensor([infinite]))[1]


INFINITY, NAN = float("inf"), float("nan")
GREATEST = torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("got", "want", "used"),
    [
        (1.0, 1.0, 0),
        (1.0, 1.0 + 2.0**-24, 0.5),
        (1.0 + 2.0**-22, 1.0, 2),
        (0.0, -0.0, 0),
        (INFINITY, INFINITY, 0),
        (INFINITY, 1.0, INFINITY),
        (-INFINITY, INFINITY, INFINITY),
        (NAN, NAN, 0),
        (NAN, 1.0, INFINITY),
        (1.0, NAN, INFINITY),
        (NAN, INFINITY, INFINITY),
        (INFINITY, 2 * GREATEST, 0),
        (GREATEST, 2 * GREATEST, 0),
        (-INFINITY, 2 * GREATEST, INFINITY),
        (2.0**-149, 0.0, 1),
    ],
)
def test_errors_are_shares_of_what_is_allowed(got, want, used):
    assert judged(got, want).used == pytest.approx(used)


def test_the_larger_of_the_two_bounds_counts():
    assert judged(1e-7, 0.0, tolerance=Tolerance(ulp=1, atol=2e-7)).used == pytest.approx(0.5)


def test_nan_is_right_where_infinity_meets_a_gate_that_underflows():
    assert judged(NAN, INFINITY, infinite=True).used == 0
    assert judged(NAN, 1.0, infinite=True).used == INFINITY


def test_errors_below_the_last_place_of_float64_are_seen():
    want = Exact(torch.tensor([1.0]).double(), torch.tensor([2.0**-54]).double())
    scale = torch.ones(1, dtype=torch.float64)
    no = torch.tensor([False])
    _, measured = measure(torch.ones(1).double(), want, ONE_ULP, scale, no)
    assert measured.used == 0.25
