"""POST /activate with JSON: correct numbers, in the shapes of the request."""

import math

import ml_dtypes
import mpmath
import numpy as np
import pytest

from gatewave.export.accuracy import reference

A = [0.5, -1.0, 2.0, -2.0]
B = [1.0, -1.0, 0.0, 2.0]

ABSOLUTE = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-7, "float64": 1e-15}


def exact_sigmoid(x):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(x)))


def close(got, want, *, ulp, atol):
    """Return True if float32 numbers agree within ``ulp`` units in the last place, or ``atol``."""
    want = np.array(want, np.float64)
    spacing = np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)
    return np.all(np.abs(np.array(got) - want) <= np.maximum(ulp * spacing, atol))


def numbers(values):
    return np.array([float(v) for v in values])


def test_the_worked_example_is_the_sigmoid_gate_in_float32(activate):
    answer = activate("swiglu", {"a": A, "b": B})
    want = [a * exact_sigmoid(a) * exact_sigmoid(b) for a, b in zip(A, B, strict=True)]
    assert close(answer["outputs"]["y"], numbers(want), ulp=4, atol=2e-7)
    assert answer["dtype"] == "float32"
    assert answer["shape"] == [4]
    assert answer["provider"] == "CPUExecutionProvider"


def test_the_worked_example_is_right_to_1e_15_in_float64(activate):
    answer = activate("swiglu", {"a": A, "b": B}, dtype="float64")
    want = [a * exact_sigmoid(a) * exact_sigmoid(b) for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(answer["outputs"]["y"], numbers(want), rtol=0, atol=1e-15)


def test_the_linear_gate_is_silu_times_b_and_says_so(activate):
    linear = activate("swiglu", {"a": A, "b": B}, params={"gate": "linear"}, dtype="float64")
    want = [a * exact_sigmoid(a) * b for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(linear["outputs"]["y"], numbers(want), rtol=0, atol=1e-15)
    assert linear["formula"] != activate("swiglu", {"a": A, "b": B})["formula"]


def test_alpha_keeps_all_its_digits_in_float64(activate):
    params = {"gate": "linear", "alpha": 1.702}
    answer = activate("swiglu", {"a": A, "b": B}, params=params, dtype="float64")
    want = [a * exact_sigmoid(1.702 * a) * b for a, b in zip(A, B, strict=True)]
    np.testing.assert_allclose(answer["outputs"]["y"], numbers(want), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("alpha", [1.0, 2.0, -0.5, 0.0, 1.702, 1e3, 1e30])
def test_any_alpha_gives_the_derivative_of_the_formula(activate, alpha, dtype):
    x = [-3e38, -1e30, -2.5, -0.125, 0.0, 0.5, 3.0, 1e30, 3e38]
    found = activate("swish", {"x": x}, params={"alpha": alpha}, dtype=dtype, outputs=["dy_dx"])
    x = [float(v) for v in np.array(x).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)]
    wide = float(np.float32(alpha)) if dtype != "float64" else alpha
    with mpmath.workdps(60):
        gates = [(exact_sigmoid(wide * v), exact_sigmoid(-wide * v)) for v in map(mpmath.mpf, x)]
        want = [s + wide * v * s * t for v, (s, t) in zip(x, gates, strict=True)]
    tolerance = 8 * ABSOLUTE[dtype]
    np.testing.assert_allclose(
        found["outputs"]["dy_dx"], numbers(want), rtol=tolerance, atol=tolerance
    )


def test_a_number_is_rounded_once_to_bfloat16(activate):
    above_a_tie = 1 + 2.0**-8 + 2.0**-40
    answer = activate("bilinear", {"a": above_a_tie, "b": 1}, dtype="bfloat16")
    assert answer["outputs"]["y"] == 1.0078125


def test_sinc_of_the_plotted_points_is_right(activate):
    points = np.linspace(-10, 10, 100)
    want = numbers(mpmath.sincpi(mpmath.mpf(p)) for p in points)
    double = activate("sinc", {"x": points.tolist()}, dtype="float64")["outputs"]["y"]
    np.testing.assert_allclose(double, want, rtol=0, atol=1e-15)
    single = points.astype(np.float32)
    want = numbers(mpmath.sincpi(mpmath.mpf(float(p))) for p in single)
    assert close(activate("sinc", {"x": single.tolist()})["outputs"]["y"], want, ulp=4, atol=2e-7)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_sinc_has_its_special_values(activate, dtype):
    x = [0.0, -0.0, 1.0, -3.0, 64.0, "Infinity", "-Infinity", "NaN"]
    answer = activate("sinc", {"x": x}, dtype=dtype, outputs=["y", "dy_dx"])
    assert answer["outputs"]["y"] == [1, 1, 0, 0, 0, 0, 0, "NaN"]
    assert answer["outputs"]["dy_dx"][-3:] == [0, 0, "NaN"]


def test_sinc_is_zero_at_integers_up_to_2_to_the_24(activate):
    integers = [2.0**k for k in range(25)] + [2.0**k - 1 for k in range(2, 25)]
    for sign in (1, -1):
        answer = activate("sinc", {"x": [sign * i for i in integers]})
        assert set(answer["outputs"]["y"]) == {0}


@pytest.mark.parametrize("dtype", ABSOLUTE)
def test_value_and_derivatives_are_those_of_the_formula(activate, activation, operator, dtype):
    outputs = ["y", *(f"dy_d{name}" for name in activation.inputs)]
    example = {name: list(values) for name, values in activation.example.items()}
    params = dict(operator.choice)
    found = activate(activation.name, example, params=params, dtype=dtype, outputs=outputs)
    evaluate = reference.definition(activation, operator, **activation.defaults(operator))
    points = zip(*example.values(), strict=True)
    want = zip(*(map(float, evaluate(*point)) for point in points), strict=True)
    for name, exact in zip(outputs, want, strict=True):
        np.testing.assert_allclose(
            found["outputs"][name], exact, rtol=ABSOLUTE[dtype], atol=4 * ABSOLUTE[dtype]
        )


def test_derivatives_are_central_differences_in_50_digits(activate, activation, operator):
    names = activation.inputs
    point = {name: 0.3 + 0.45 * index for index, name in enumerate(names)}
    outputs = [f"dy_d{name}" for name in names]
    params = dict(operator.choice)
    found = activate(activation.name, point, params=params, dtype="float64", outputs=outputs)
    evaluate = reference.definition(activation, operator, **activation.defaults(operator))
    step = mpmath.mpf(10) ** -8
    for name in names:
        with mpmath.workdps(50):
            above = evaluate(*(point[n] + step * (n == name) for n in names))[0]
            below = evaluate(*(point[n] - step * (n == name) for n in names))[0]
            slope = float((above - below) / (2 * step))
        assert found["outputs"][f"dy_d{name}"] == pytest.approx(slope, rel=1e-12, abs=1e-13)


def test_gradients_are_the_derivatives_times_grad_y(activate, activation, operator):
    inputs = {name: list(values) for name, values in activation.example.items()}
    count = len(next(iter(inputs.values())))
    upstream = np.linspace(-1, 2, count)
    params = dict(operator.choice)
    names = activation.inputs
    slopes = activate(
        activation.name, inputs, params=params, dtype="float64", outputs=[f"dy_d{n}" for n in names]
    )
    gradients = activate(
        activation.name,
        inputs | {"grad_y": upstream.tolist()},
        params=params,
        dtype="float64",
        outputs=[f"grad_{n}" for n in names],
    )
    for name in names:
        want = upstream * np.array(slopes["outputs"][f"dy_d{name}"])
        np.testing.assert_allclose(gradients["outputs"][f"grad_{name}"], want, rtol=1e-14)


@pytest.mark.parametrize("dtype", ABSOLUTE)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 3), (0,), (2, 0), (1,) * 8])
def test_nested_lists_come_back_nested_alike(activate, shape, dtype):
    x = np.full(shape, 0.5).tolist()
    answer = activate("sinc", {"x": x}, dtype=dtype, outputs=["y", "dy_dx"])
    assert answer["shape"] == list(shape)
    for values in answer["outputs"].values():
        assert np.shape(values) == shape
    if 0 not in shape:
        np.testing.assert_allclose(answer["outputs"]["y"], 2 / math.pi, rtol=4e-3)


def test_outputs_come_in_the_order_asked_for(activate):
    answer = activate("swiglu", {"a": A, "b": B}, outputs=["dy_db", "y"])
    assert list(answer["outputs"]) == ["dy_db", "y"]


def test_infinity_and_nan_are_words_and_no_numbers_are_lost(activate):
    answer = activate("bilinear", {"a": [[1, "NaN"], ["-Infinity", 4]], "b": [[1, 2], [3, 4]]})
    assert answer["outputs"]["y"] == [[1, "NaN"], ["-Infinity", 16]]


@pytest.mark.parametrize("dtype", ABSOLUTE)
def test_a_scalar_infinity_is_a_word(activate, dtype):
    assert activate("swish", {"x": "Infinity"}, dtype=dtype)["outputs"]["y"] == "Infinity"


def test_a_batch_answers_each_item_with_its_result_or_its_problem(client):
    good = {"activation": "sinc", "inputs": {"x": [0.5]}}
    batch = [good, {"activation": "sinc", "inputs": {}}, 3, {"activation": "no"}, good]
    response = client.post("/activate/batch", json={"requests": batch})
    assert response.status_code == 200
    first, *failed, last = response.json()["results"]
    assert first == last
    assert first["outputs"]["y"] == [pytest.approx(2 / math.pi)]
    assert [item["problem"]["status"] for item in failed] == [422, 422, 422]
    assert failed[0]["problem"]["errors"][0]["field"] == "inputs.x"


def test_an_empty_batch_has_no_results(client):
    assert client.post("/activate/batch", json={"requests": []}).json() == {"results": []}
