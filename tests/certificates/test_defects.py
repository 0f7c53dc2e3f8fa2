"""Recorded defects of runtimes: each is reproduced, or has been fixed."""

import numpy as np
import onnx
import onnx.parser
import pytest
from environments import install
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.reference import ReferenceEvaluator

from gatewave.certificates.document import Baseline, Cell, Certificate, Row
from gatewave.certificates.report.portability import Matrix, defects
from gatewave.certificates.runtimes import catalogue
from gatewave.certificates.runtimes.runtime_client import RuntimeClient
from gatewave.graphs.processes.errors import Refused

SEEN = [
    pytest.param(defect, name, id=f"{name}: {defect.title}")
    for defect in defects()
    for name in defect.got
]


def arrays(defect):
    """Return the model of an entry, and its inputs."""
    model = onnx.parser.parse_model(defect.whole())
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    return model, {
        name: np.array(numbers, tensor_dtype_to_np_dtype(types[name]))
        for name, numbers in defect.inputs.items()
    }


def is_close(got, want):
    """Return True if arrays have the shape and the numbers of ``want``, within a tolerance."""
    return all(
        np.shape(got[name]) == np.shape(numbers)
        and np.allclose(
            np.asarray(got[name], np.float64),
            numbers,
            rtol=1.2e-7,
            atol=subnormal(got[name]),
            equal_nan=True,
        )
        for name, numbers in want.items()
    )


def subnormal(array):
    """Return an absolute tolerance for subnormal numbers."""
    dtype = np.asarray(array).dtype
    return 4e-324 if dtype == np.float64 else 1e-44


@pytest.mark.parametrize("defect", defects(), ids=lambda defect: defect.title)
def test_what_is_due_is_what_the_reference_evaluator_gives(defect):
    model, inputs = arrays(defect)
    onnx.checker.check_model(model, full_check=True)
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model).run(list(defect.due), inputs)
    assert is_close(dict(zip(defect.due, results, strict=True)), defect.due)


@pytest.mark.parametrize(("defect", "name"), SEEN)
def test_what_came_is_not_what_is_due(defect, name):
    assert name in catalogue.RUNTIMES
    found = defect.got[name]
    assert isinstance(found, str) or not is_close(found, defect.due)


@pytest.mark.matrix
@pytest.mark.parametrize(("defect", "name"), SEEN)
def test_each_is_seen_again(defect, name, tmp_path):
    runtime = catalogue.find(name)
    install(runtime)
    model, inputs = arrays(defect)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    found, got = defect.got[name], outcome(runtime, path, inputs, list(defect.due))
    if isinstance(found, str) or isinstance(got, str):
        assert found in got
    else:
        assert is_close(got, found), got


def outcome(runtime, path, inputs, outputs):
    """Return the result of the runtime, or its error message."""
    with RuntimeClient(runtime, 120.0) as running:
        try:
            running.load(path, list(inputs), outputs)
            return running.run(inputs)
        except Refused as error:
            return str(error)


def certificate(runtime, **fields):
    cell = Cell(subject="sigmoid", graph="value", form="decomposed", elements=100, **fields)
    row = Row(runtime=runtime, title=runtime, cells=(cell,))
    return Certificate(
        name="sigmoid", kind="activation", models={}, truth="", made="", machine="", seed=0,
        baseline=Baseline(level="formula"), rows=(row,),
    )  # fmt: skip


NUMBERS = "finite instead of NaN or infinity, or the reverse"


@pytest.mark.parametrize(
    ("fields", "explained"),
    [
        ({"verdict": "differs", "why": NUMBERS, "wrong": 20}, True),
        ({"verdict": "differs", "why": NUMBERS, "wrong": 100}, False),
        ({"verdict": "differs", "why": "y is float64, not float32"}, False),
        ({"verdict": "differs", "why": "shape [3, 1, 5]: y has shape [15], not [3, 1, 5]"}, False),
        ({"verdict": "crashed", "why": "SIGSEGV"}, False),
        ({"verdict": "refused", "why": "RuntimeError: no Sigmoid"}, False),
    ],
)
def test_a_defect_explains_what_it_is_and_nothing_else(fields, explained):
    found = Matrix([certificate("tract", dtype="float32", **fields)]).unexplained()
    assert (found == []) == explained
    assert Matrix([certificate("reference", dtype="float32", **fields)]).unexplained() != []
