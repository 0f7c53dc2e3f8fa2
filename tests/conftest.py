"""What several rooms' tests need: every record, one by one, and the artifacts."""

import functools
import gc
import itertools

import hypothesis
import onnx
import onnx_ir as ir
import pytest
import torch
from records import CASES
from sharing import once

from gatewave.export import artifacts as export_artifacts
from gatewave.export.graph import graphs_of
from gatewave.export.signature import GRAPHS
from gatewave.models import ACTIVATIONS, DTYPES

# The same examples on every run, however slow and busy the machine is.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


def pytest_collection_finish():
    """Leave modules and collected tests out of later collections, which take a second with them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The folder that `gatewave export` writes; every test only reads it."""

    def export(folder):
        export_artifacts.write(ACTIVATIONS.values(), folder, export_artifacts.Selection())

    return once(tmp_path_factory, "artifacts", export)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The models of an operator, by graph and dtype, given its stem; every test only reads them."""

    def models(stem):
        def export(folder):
            folder.mkdir()
            for kind, model in graphs_of(*CASES[stem]).items():
                onnx.save(ir.to_proto(model), folder / ".".join(kind))

        folder = once(tmp_path_factory, f"exported-{stem}", export)
        kinds = itertools.product(GRAPHS, DTYPES)
        return {kind: ir.from_proto(onnx.load(folder / ".".join(kind))) for kind in kinds}

    return functools.cache(models)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The tensors are small: a second thread would only be waited for, long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def activation(case):
    return case[0]


@pytest.fixture
def operator(case):
    return case[1]


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param
