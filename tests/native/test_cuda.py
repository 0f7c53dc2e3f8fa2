"""Kernels on a GPU; the tests are skipped without CUDA."""

import os
from pathlib import Path

import pytest
import torch
from benchmarks import cuda

from gatewave.export.accuracy import reference
from gatewave.export.operators import graphs_of, to_bytes
from gatewave.graphs.ops import signature

LIBRARY = Path(
    os.environ.get("GATEWAVE_CUDA_LIBRARY")
    or Path(__file__).resolve().parents[2] / "service" / "libgatewave_cuda.so"
)

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def _gpu():
    if why := cuda.missing():
        pytest.skip(why)
    if not LIBRARY.exists():
        pytest.skip(f"there is no {LIBRARY}")


@pytest.fixture(params=cuda.GRAPHS)
def graph(request):
    return request.param


def test_results_are_within_the_error_that_the_record_allows(activation, operator, graph, dtype):
    cuda.prove_one(LIBRARY, activation, operator, graph, dtype)


def test_nothing_is_computed_of_nothing(activation, operator, graph, dtype):
    model = to_bytes(graphs_of(activation, operator, [dtype])[graph, dtype])
    inputs = {
        name: torch.empty(0, dtype=getattr(torch, dtype))
        for name in signature.inputs(activation, graph)
    }
    assert all(not len(result) for result in cuda.run(model, inputs, LIBRARY).values())


def test_an_odd_stretch_is_computed_as_the_whole_is(activation, operator, graph, dtype):
    model = to_bytes(graphs_of(activation, operator, [dtype])[graph, dtype])
    names = signature.inputs(activation, graph)
    whole = dict(zip(names, reference.samples(activation, graph, dtype), strict=True))
    part = {name: tensor[:1001] for name, tensor in whole.items()}
    wanted = cuda.run(model, whole, LIBRARY)
    for name, found in cuda.run(model, part, LIBRARY).items():
        assert torch.equal(found.nan_to_num(7.0), wanted[name][:1001].nan_to_num(7.0))
