"""Fixtures of several test folders: every record, one by one, and the artifacts."""

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
from gatewave.export.operators import graphs_of
from gatewave.graphs.ops.signature import GRAPHS
from gatewave.models import ACTIVATIONS, DTYPES

pytest_plugins = ["model_files"]

# The same examples on every run, however slow and busy the machine is.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


COSTLY = (
    "tests/test_new_activation.py",
    "tests/test_readme.py",
    "tests/sources",
    "tests/deploy",
    "tests/load",
    "tests/native",
)
"""Files and folders that take longest, for the order of the tests."""


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: processes that run tests then end at about the same time."""
    items.sort(key=lambda item: not item.nodeid.startswith(COSTLY))


def pytest_collection_finish():
    """Exclude modules and tests from later garbage collections, which are a second faster then."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """Return the folder that `gatewave export` writes; tests only read it."""

    def export(folder):
        export_artifacts.write(ACTIVATIONS.values(), folder, export_artifacts.Selection())

    return once(tmp_path_factory, "artifacts", export)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Return a function from a stem to its models, by graph and dtype; tests only read them."""

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
    """Limit Torch to one thread: a second one is slow on a busy machine, and tensors are small."""
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
