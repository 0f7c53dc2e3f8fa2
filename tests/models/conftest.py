"""Every record, one by one."""

import pytest
import torch

from models import ACTIVATIONS, DTYPES

CASES = {
    activation.stem(operator): (activation, operator)
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
}


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


@pytest.fixture
def module(operator):
    return operator.build()


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def points(activation):
    """Float64 inputs over the interesting range, none near a kink."""
    numbers = torch.Generator().manual_seed(1)
    low, high = activation.plot_range

    def drawn():
        tensor = low + (high - low) * torch.rand(24, generator=numbers, dtype=torch.float64)
        return torch.where(tensor.abs() < 0.01, 0.25, tensor)

    return [drawn() for _ in activation.inputs]
