"""Graphs written as text, and rows that reveal dependencies."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

DOMAINS = '"ai.onnx.ml" : 3, "com.microsoft" : 1, "local" : 1'
SPECIAL = np.float32([np.inf, -np.inf, np.nan, 3e38])

SOURCE = np.random.default_rng(5)
W = SOURCE.normal(size=(4, 3)).astype(np.float32)
FILTERS = SOURCE.normal(size=(2, 3, 3, 3)).astype(np.float32)
IMAGES = "float[n,3,6,6] x"
TENSOR = "float[n,3,4] x"
ONE, ZERO = np.float32(1), np.float32(0)


def ints(*numbers):
    return np.array(numbers, np.int64)


def weights(**shapes):
    return {name: SOURCE.normal(size=size).astype(np.float32) for name, size in shapes.items()}


def case(name, body, **more):
    return pytest.param(body, more, id=name)


def graph(body, inputs="float[n,4] x", constants=None, opset=17, functions="", outputs="y"):
    """Parse a model from ONNX's textual syntax; ``constants`` become initializers."""
    results = ", ".join(f"float[] {name}" for name in outputs.split())
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}, {DOMAINS}]>'
        f"g ({inputs}) => ({results}) {{ {body} }} {functions}"
    )
    made = onnx.parser.parse_model(text)
    for port in made.graph.output:
        port.type.tensor_type.ClearField("shape")
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    )
    return made


def session(made):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(made.SerializeToString(), options)


def rows_of(made, count, seed=0, sizes=None):
    """Draw ``count`` rows for each input, of different scales and signs, with infinities and NaN.

    ``sizes`` has the sizes of open axes but the first, by symbol; the default is 3.
    """
    source = np.random.default_rng(seed)
    spare = {tensor.name for tensor in made.graph.initializer}
    return {
        port.name: _drawn(port, count, source, sizes or {})
        for port in made.graph.input
        if port.name not in spare
    }


def _drawn(port, count, source, sizes):
    kind = port.type.tensor_type
    named = [d.dim_value or sizes.get(d.dim_param, 3) for d in kind.shape.dim]
    shape = (count, *named[1:])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if np.issubdtype(dtype, np.integer) or dtype == np.bool_:
        return source.integers(0, 2, shape).astype(dtype)
    scales = source.permutation([1e-3, 1.0, -255.0, 1e4, 0.0])[np.arange(count) % 5]
    values = source.uniform(-1, 1, shape) * scales.reshape(-1, *(1,) * (len(shape) - 1))
    values = values.astype(dtype)
    for row in range(2, count, 3):
        values[row].reshape(-1)[:: source.integers(1, 4)] = SPECIAL[row % len(SPECIAL)]
    return values


def differing_rows(made, count=4, seed=0, sizes=None):
    """Return the rows with a result that differs between the batch and the row alone."""
    run = session(made).run
    inputs = rows_of(made, count, seed, sizes)
    together = run(None, inputs)
    found = set()
    for row in range(count):
        alone = run(None, {name: value[row : row + 1] for name, value in inputs.items()})
        if not all(
            _equal(one, all_[row : row + 1]) for one, all_ in zip(alone, together, strict=True)
        ):
            found.add(row)
    return found


def _equal(alone, together):
    """Return True if results are equal, except for the order of sums, which may vary."""
    if alone.shape != together.shape:
        return False
    scale = np.abs(alone[np.isfinite(alone)]).max(initial=0)
    return np.allclose(alone, together, rtol=1e-5, atol=1e-4 * scale, equal_nan=True)
