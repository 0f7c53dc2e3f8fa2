"""Adapters of all runtimes: each runs its supported models, and gives reasons for the others.

Environments are made from our own lists, in `.venv-matrix/runtimes`, at first use.
"""

import tempfile

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from environments import ENVIRONMENTS, install
from onnx import helper, numpy_helper
from onnx_models import model, port

from gatewave.certificates.runtimes import environments
from gatewave.certificates.runtimes.catalogue import RUNTIMES
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.export.operators import decomposed, to_bytes
from gatewave.graphs.processes.errors import Lost, Refused

pytestmark = pytest.mark.matrix

SHAPES = [(6001,), (3, 5), (2, 3, 4), (1,), (), (0,), (2, 0)]
ULPS = 32

DTYPES = ["float16", "bfloat16", "float32", "float64"]

NO_FLOAT64 = "does not support F64"
REFUSED = {
    ("iree", "sinc", "float64"): "undefined symbol: sin",
    ("tract", "sinc", "float64"): NO_FLOAT64,
    ("tract", "swiglu-linear", "float64"): NO_FLOAT64,
    ("ncnn", "sinc", "float32"): "layer torch.gt not exists or registered",
    **{("jaxonnxruntime", "sinc", dtype): "Greater is not implemented" for dtype in DTYPES},
}
"""Models that a runtime rejects in a supported element type, with its error message."""

NO_SHAPE = {
    ("ncnn", ()): "pybind11::init(): factory function returned nullptr",
    ("ncnn", (0,)): "SIGSEGV",
    ("ncnn", (2, 0)): "SIGSEGV",
}
"""Shapes that a runtime rejects, with its error message."""

NO_SCALARS = {"ncnn"}
"""Runtimes that return a scalar as one element on one axis."""

WIDENED = {"litert"}
"""Runtimes that do this for scalar inputs only; a scalar that the model computes is kept."""


@pytest.fixture(scope="module", autouse=True)
def folder():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environments.VARIABLE, str(ENVIRONMENTS / "runtimes"))
        yield


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request):
    found = RUNTIMES[request.param]
    if not environments.is_possible(found):
        pytest.skip(f"{found.title} needs a GPU")
    install(found)
    return found


@pytest.fixture(scope="module")
def running(runtime):
    with RuntimeClient(runtime) as running:
        yield running


@pytest.fixture
def run(running, tmp_path):
    """Return a function from a model and arrays by name to its results."""

    def run(content, arrays, outputs=("y",)):
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        running.load(path, list(arrays), list(outputs))
        return running.run(arrays)

    return run


@pytest.fixture(scope="module")
def content(exported, runtime):
    """Return the model of an activation for one shape, fixed if the runtime requires it."""

    def content(stem, dtype, shape):
        activation = decomposed(exported(stem)["value", dtype])
        names = shape if runtime.static else [f"d{axis}" for axis in range(len(shape))]
        for value in (*activation.graph.inputs, *activation.graph.outputs):
            if value.name not in activation.graph.initializers:  # those are real parameters
                value.shape = ir.Shape(names)
        return to_bytes(activation, checked=False)

    return content


def line(shape, dtype):
    return np.linspace(-3, 3, int(np.prod(shape))).reshape(shape).astype(dtype)


def assert_near(got, truth, dtype):
    assert got.dtype.name == dtype
    assert got.shape == truth.shape
    epsilon = float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(got.astype("float64"), truth, rtol=ULPS * epsilon, atol=epsilon)


def sinc(x):
    return {"x": x}, np.sinc(x.astype("float64"))


def swiglu(x):
    wide = x.astype("float64")
    return {"a": x, "b": x}, wide * wide / (1 + np.exp(-wide))


def test_it_says_its_versions_and_they_are_those_of_its_list(runtime, running):
    listed = {}
    if runtime.requirements.endswith(".txt"):
        lines = (environments.REQUIREMENTS / runtime.requirements).read_text().split()
        listed = dict(each.split("==") for each in lines)
    versions = running.versions()
    assert versions
    for package, version in versions.items():
        assert version.startswith(listed.get(package, version))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("stem", "case"), [("sinc", sinc), ("swiglu-linear", swiglu)])
def test_it_runs_activations_in_its_element_types(runtime, content, run, stem, case, dtype):
    if dtype not in runtime.dtypes:
        pytest.skip(f"{runtime.title} has no {dtype}")
    arrays, truth = case(line((6001,), dtype))
    if words := REFUSED.get((runtime.name, stem, dtype)):
        with pytest.raises(Refused, match=words):
            run(content(stem, dtype, (6001,)), arrays)
        return
    assert_near(run(content(stem, dtype, (6001,)), arrays)["y"], truth, dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_runs_tensors_of_any_shape(runtime, content, run, shape):
    arrays, truth = swiglu(line(shape, "float32"))
    if words := NO_SHAPE.get((runtime.name, shape)):
        with pytest.raises(Refused) as refused:
            run(content("swiglu-linear", "float32", shape), arrays)
        assert words in str(refused.value)
        return
    found = run(content("swiglu-linear", "float32", shape), arrays)["y"]
    if runtime.name in WIDENED and shape == ():
        assert found.shape == (1,)
        found = found[0]
    assert_near(found, truth, "float32")


def test_ports_are_told_apart_and_outputs_are_not_mixed_up(run):
    two = model(
        [helper.make_node("Sub", ["p", "q"], ["d"]), helper.make_node("Neg", ["d"], ["n"])],
        [port("p", [3]), port("q", [3])],
        [port("n", [3]), port("d", [3])],
    )
    p, q = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    results = run(two.SerializeToString(), {"p": p, "q": q}, ("n", "d"))
    assert results["d"].tolist() == [-9, -18, -27]
    assert results["n"].tolist() == [9, 18, 27]


def test_it_gives_scalars(runtime, run):
    axes = numpy_helper.from_array(np.array([0]), "axes")
    total = model(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        [port("x", [4])],
        [port("y", [])],
        [axes],
    )
    found = run(total.SerializeToString(), {"x": np.arange(4, dtype=np.float32)})["y"]
    assert found.shape == ((1,) if runtime.name in NO_SCALARS else ())
    assert found.item() == 6


def test_products_are_summed_in_the_precision_of_the_model(run):
    random = np.random.default_rng(0)
    x, w = (random.normal(size=shape).astype(np.float32) for shape in ((3, 64), (64, 8)))
    product = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [port("x", [3, 64])],
        [port("y", [3, 8])],
        [numpy_helper.from_array(w, "w")],
    )
    truth = x.astype("float64") @ w.astype("float64")
    found = run(product.SerializeToString(), {"x": x})["y"]
    np.testing.assert_allclose(found, truth, rtol=0, atol=2e-5)


def test_a_model_that_it_refuses_leaves_it_as_it_was(running, run, content):
    wrong = model([helper.make_node("Nowhere", ["x"], ["y"])], [port("x")], [port("y")])
    with pytest.raises(Refused, match=r"(?i)nowhere") as refused:
        run(wrong.SerializeToString(), {"x": np.ones((1, 2), np.float32)})
    assert not isinstance(refused.value, Lost)
    arrays, truth = swiglu(line((5,), "float32"))
    assert_near(running_on(running, run, content, arrays), truth, "float32")


def running_on(running, run, content, arrays):
    """Return the result, and check that the same process computed it."""
    before = running._client._process  # noqa: SLF001 - an internal of the client
    found = run(content("swiglu-linear", "float32", (5,)), arrays)["y"]
    assert running._client._process is before  # noqa: SLF001
    return found


def test_it_leaves_no_file_behind(runtime, content, tmp_path, monkeypatch):
    scratch, place = tmp_path / "scratch", tmp_path / "place"
    scratch.mkdir()
    place.mkdir()
    (place / "model.onnx").write_bytes(content("swiglu-linear", "float32", (5,)))
    arrays, _ = swiglu(line((5,), "float32"))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with RuntimeClient(runtime) as running:
        running.load(place / "model.onnx", list(arrays), ["y"])
        running.run(arrays)
        assert [path.name for path in place.iterdir()] == ["model.onnx"]
        assert [path for path in scratch.rglob("*") if path.is_file()] == []
    assert list(scratch.iterdir()) == []
