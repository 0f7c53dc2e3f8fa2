"""Operators that replace the reference evaluator's, against ONNX Runtime and the standard."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from gatewave.graphs.verify.evaluator import evaluator

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> g '
NAMES = ("x", "scale", "bias", "mean", "var")


def batch_normalization(opset, kind="float", attributes="", outputs="y"):
    ports = ", ".join(f"{kind}[{'N,3,H' if name == 'x' else '3'}] {name}" for name in NAMES)
    wanted = ", ".join(f"{kind}[{'N,3,H' if name == 'y' else '3'}] {name}"
                       for name in outputs.split(", "))  # fmt: skip
    node = f"{outputs} = BatchNormalization {attributes} ({', '.join(NAMES)})"
    text = HEAD.format(opset=opset) + f"({ports}) => ({wanted}) {{ {node} }}"
    return onnx.parser.parse_model(text)


def inputs(dtype):
    source = np.random.default_rng(0)
    return {name: source.random((2, 3, 4) if name == "x" else 3).astype(dtype) for name in NAMES}


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 14, 15])
def test_batch_normalization_takes_the_statistics_given(opset, kind):
    model, given = batch_normalization(opset, kind), inputs(kind.replace("float", "float32"))
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, given)
    (got,) = evaluator(model).run(None, given)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_evaluator_of_onnx_still_mixes_the_batch_in():
    """If this test fails, remove the replacement."""
    model, given = batch_normalization(11), inputs("float32")
    (want,) = evaluator(model).run(None, given)
    (got,) = ReferenceEvaluator(model).run(None, given)
    assert not np.allclose(got, want, rtol=1e-3)


def test_batch_normalization_in_training_takes_the_statistics_of_the_batch():
    given = inputs("float32")
    mean, var = given["x"].mean(axis=(0, 2)), given["x"].var(axis=(0, 2))
    moved = [0.75 * given["mean"] + 0.25 * mean, 0.75 * given["var"] + 0.25 * var]
    y = (given["x"] - mean[:, None]) / np.sqrt(var + 1e-5)[:, None]
    y = given["scale"][:, None] * y + given["bias"][:, None]
    new = batch_normalization(15, "float", "<momentum = 0.75, training_mode = 1>", "y, m, v")
    old = batch_normalization(9, "float", "<momentum = 0.75>", "y, m, v, sm, sv")
    for model, wanted in ((new, [y, *moved]), (old, [y, *moved, mean, var])):
        got = evaluator(model).run(None, given)
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_global_max_pool_keeps_its_axes_at_every_rank(axes):
    sizes, ones = ",".join("HWD"[:axes]), ",".join("1" * axes)
    text = f"(float[N,C,{sizes}] x) => (float[N,C,{ones}] y) {{ y = GlobalMaxPool(x) }}"
    model = onnx.parser.parse_model(HEAD.format(opset=15) + text)
    given = {"x": np.random.default_rng(0).random((2, 3, 4, 5, 6)[: 2 + axes], np.float32)}
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, given)
    (got,) = evaluator(model).run(None, given)
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("opset", [10, 13, 18, 19, 21])
def test_dequantize_linear_runs_at_every_opset(opset):
    axis = "<axis = 1>" if opset >= 13 else ""
    size = "[3]" if axis else ""
    text = f"(int8[2,3] x, float{size} s, int8{size} z) => (float[2,3] y)"
    text += f"{{ y = DequantizeLinear {axis} (x, s, z) }}"
    model = onnx.parser.parse_model(HEAD.format(opset=opset) + text)
    shape = (3,) if axis else ()
    given = {
        "x": np.arange(6, dtype=np.int8).reshape(2, 3),
        "s": np.full(shape, 0.25, np.float32),
        "z": np.full(shape, 3, np.int8),
    }
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, given)
    (got,) = evaluator(model).run(None, given)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("axis", ["", "<axis = 0>", "<axis = 2>", "<axis = -2>"])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_takes_the_axes_of_its_version(operator, opset, axis):
    text = f"(float[A,B,C] x) => (float[A,B,C] y) {{ y = {operator} {axis} (x) }}"
    model = onnx.parser.parse_model(HEAD.format(opset=opset) + text)
    given = {"x": np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)}
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, given)
    (got,) = evaluator(model).run(None, given)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_batch_normalization_of_positions_has_statistics_of_each():
    node = "y = BatchNormalization <spatial = 0> (x, scale, bias, mean, var)"
    ports = ", ".join(f"float[{'N,' if name == 'x' else ''}3,4] {name}" for name in NAMES)
    model = onnx.parser.parse_model(
        HEAD.format(opset=7) + f"({ports}) => (float[N,3,4] y) {{{node}}}"
    )
    source = np.random.default_rng(0)
    given = {n: source.random((2, 3, 4) if n == "x" else (3, 4), np.float32) for n in NAMES}
    want = given["scale"] * (given["x"] - given["mean"]) / np.sqrt(given["var"] + 1e-5)
    (got,) = evaluator(model).run(None, given)
    np.testing.assert_allclose(got, want + given["bias"], rtol=1e-5)
