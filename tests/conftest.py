"""What several rooms' tests need: every record, one by one, and the artifacts."""

import hypothesis
import pytest
import torch
from records import CASES
from sharing import once

from gatewave.export import artifacts as export_artifacts
from gatewave.models import ACTIVATIONS, DTYPES

# The same examples on every run, however slow and busy the machine is.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory):
    """The folder that `gatewave export` writes; every test only reads it."""

    def export(folder):
        export_artifacts.write(ACTIVATIONS.values(), folder, export_artifacts.Selection())

    return once(tmp_path_factory, "artifacts", export)


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
