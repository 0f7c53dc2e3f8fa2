"""Runtimes that take converted models, and the native runtime for Node."""

import numpy as np
import onnx_ir as ir
import pytest
from environments import install

from gatewave.certificates.runtimes import catalogue
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.export.operators import decomposed, to_bytes, with_rank
from gatewave.graphs import targets
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.rewrite.lower.lower import lower

pytestmark = pytest.mark.matrix

NAMES = ("onnxruntime-node", "litert", "tensorflow", "onnx2torch", "jaxonnxruntime")
SHAPE = (3, 5)
ACCURACY = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6, "float64": 1e-14}


@pytest.fixture(scope="module", params=NAMES)
def running(request):
    runtime = catalogue.find(request.param)
    install(runtime)
    with RuntimeClient(runtime) as started:
        yield started


@pytest.fixture
def fitted(exported):
    """Return the model of an activation in the form that the runtime requires."""

    def fit(stem, kind, runtime):
        model = with_rank(decomposed(exported(stem)["value", kind]), len(SHAPE))
        if runtime.static:
            for value in (*model.graph.inputs, *model.graph.outputs):
                if value.name not in model.graph.initializers:
                    value.shape = ir.Shape(SHAPE)
        if runtime.target:
            lower(model, targets.find(runtime.target))
        return to_bytes(model)

    return fit


def test_it_computes_in_the_element_types_that_it_has(running, fitted, saved):
    for kind in running.runtime.dtypes:
        path = saved(fitted("swiglu-linear", kind, running.runtime))
        content = path.read_bytes()
        running.load(path, ["a", "b"], ["y"])
        a, b = (np.linspace(first, 3, 15).reshape(SHAPE).astype(kind) for first in (-3, -2))
        result = running.run({"a": a, "b": b})["y"]
        wide_a, wide_b = a.astype(float), b.astype(float)
        expected = wide_a * wide_b / (1 + np.exp(-wide_a))
        assert result.dtype == kind
        assert result.shape == SHAPE
        np.testing.assert_allclose(result.astype(float), expected, ACCURACY[kind], ACCURACY[kind])
        assert [*path.parent.iterdir()] == [path]
        assert path.read_bytes() == content


def test_inputs_and_outputs_go_by_their_names(running, saved):
    path = saved(
        '<ir_version: 8, opset_import: ["": 15]> '
        "g (float[2] b, float[2] a) => (float[2] z, float[2] y) "
        "{ [first] y = Sub (b, a) [second] z = Mul (b, a) }"
    )
    running.load(path, ["a", "b"], ["y", "z"])
    results = running.run({"a": np.float32([1, 2]), "b": np.float32([5, 7])})
    assert {name: values.tolist() for name, values in results.items()} == {
        "y": [4, 5],
        "z": [5, 14],
    }


def test_a_refusal_is_told_and_the_next_model_runs(running, fitted, saved):
    unknown = saved(
        '<ir_version: 8, opset_import: ["": 15, "com.example": 1]> '
        "g (float[2] x) => (float[2] y) { y = com.example.Nothing (x) }"
    )
    values = np.ones(SHAPE, np.float32)

    def use(path):  # JAX looks at operators when it is given inputs
        running.load(path, ["x"], ["y"])
        running.run({"x": values[0, :2]})

    for path in (saved(b"nonsense", "nonsense.onnx"), unknown):
        with pytest.raises(Refused):
            use(path)
    running.load(saved(fitted("swiglu-linear", "float32", running.runtime)), ["a", "b"], ["y"])
    assert running.run({"a": values, "b": values})["y"].shape == SHAPE
