"""ONNX Runtime Web under Node, and the interface of adapters in JavaScript."""

import shutil
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from environments import install
from onnx.reference import ReferenceEvaluator

from gatewave.certificates.runtimes import catalogue
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.export.operators import decomposed, to_bytes, with_rank
from gatewave.graphs.processes.errors import Lost, Refused

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("node", "npm"))), reason="it takes Node and npm"
)


@pytest.fixture(scope="module")
def runtime():
    found = catalogue.find("onnxruntime-web")
    install(found)
    return found


@pytest.fixture(scope="module")
def web(runtime):
    with RuntimeClient(runtime) as running:
        yield running


@pytest.fixture
def adapted(runtime, tmp_path):
    """Return a function that makes a runtime with the text of an adapter."""

    def adapt(text):
        adapter = tmp_path / "adapter.mjs"
        adapter.write_text(text, encoding="utf-8")
        return RuntimeClient(replace(runtime, worker=str(adapter)))

    return adapt


VERSIONS = "export const versions = () => ({ made: '1' });\n"


def test_it_says_what_it_consists_of(web):
    assert {*web.versions()} == {"onnxruntime-web", "node", "v8"}
    assert web.versions()["onnxruntime-web"] in web.runtime.title


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
@pytest.mark.parametrize("stem", ["sinc", "swiglu-linear"])
def test_activations_are_what_onnx_means_by_them(web, exported, saved, stem, kind, shape):
    model = with_rank(decomposed(exported(stem)["value", kind]), len(shape))
    inputs = [v.name for v in model.graph.inputs if v.name not in model.graph.initializers]
    values = np.linspace(-3, 3, int(np.prod(shape))).reshape(shape).astype(kind)
    web.load(saved(to_bytes(model)), inputs, ["y"])
    result = web.run(dict.fromkeys(inputs, values))["y"]
    (expected,) = ReferenceEvaluator(ir.to_proto(model)).run(None, dict.fromkeys(inputs, values))
    assert result.dtype == kind
    assert result.shape == shape
    accuracy = 8 * float(ml_dtypes.finfo(kind).eps)
    np.testing.assert_allclose(result, expected, rtol=accuracy, atol=accuracy)


def test_a_refusal_is_in_its_words_and_the_next_model_runs(web, saved, weighted):
    with pytest.raises(Refused, match="protobuf parsing failed"):
        web.load(saved(b"nonsense"), ["x"], ["y"])
    two = np.array([1, 2], np.float32)
    web.load(saved(weighted(dims=[2], data_type=1, float_data=[3, 4])), ["x"], ["y"])
    assert web.run({"x": two})["y"].tolist() == [4, 6]
    with pytest.raises(Refused, match="bfloat16"):
        web.run({"x": two.astype(ml_dtypes.bfloat16)})
    assert web.run({"x": two})["y"].tolist() == [4, 6]


ARRAYS = {
    "halves": np.array([1, -0.0, np.nan], np.float16),
    "brains": np.array([[1, 2.5]], ml_dtypes.bfloat16),
    "long": np.array(2**53 + 1, np.int64),
    "truths": np.array([True, False]),
    "none": np.zeros((2, 0, 3), np.float64),
    "much": np.arange(2**20, dtype=np.float32),
    "wörter": np.array([["ä", ""]], object),
}


def test_arrays_of_every_kind_come_back_as_they_went(adapted):
    with adapted(VERSIONS + "export const load = () => (arrays) => arrays;") as echo:
        echo.load("any", [*ARRAYS], [*ARRAYS])
        results = echo.run(ARRAYS)
    assert [*results] == [*ARRAYS]
    for name, sent in ARRAYS.items():
        assert results[name].dtype == sent.dtype
        assert results[name].shape == sent.shape
        assert results[name].tolist() == sent.tolist() or sent.tobytes() == results[name].tobytes()


def test_what_is_printed_is_no_answer(adapted):
    printing = "import { writeSync } from 'node:fs';\nwriteSync(1, 'so\\n'); console.log('so');\n"
    with adapted(printing + VERSIONS) as talkative:
        assert talkative.versions() == {"made": "1"}


def test_after_a_crash_there_is_another_process(adapted):
    crashing = (
        "export const load = (require, path) => path === 'bad' ? process.abort() : () => ({});"
    )
    with adapted(VERSIONS + crashing) as fragile:
        with pytest.raises(Lost, match="loading the model crashed the process, SIGABRT"):
            fragile.load("bad", [], [])
        fragile.load("good", [], [])
        assert fragile.run({}) == {}


def test_errors_that_are_numbers_are_told_as_they_are(adapted):
    with adapted(VERSIONS + "export const load = () => { throw 42; };") as numeric:
        numeric.versions()
        with pytest.raises(Refused, match=r"^42$"):
            numeric.load("any", [], [])
