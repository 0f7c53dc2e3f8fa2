"""Every record, one by one, and its graphs, exported once a session."""

import functools

import pytest
import torch

from export.graph import graphs_of
from export.signature import GRAPHS
from models import ACTIVATIONS, DTYPES

CASES = {
    activation.stem(operator): (activation, operator)
    for activation in ACTIVATIONS.values()
    for operator in activation.operators
}


@pytest.fixture(scope="session")
def exported():
    """The models of an operator, by graph and dtype, given its stem."""
    return functools.cache(lambda stem: graphs_of(*CASES[stem]))


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


@pytest.fixture(params=GRAPHS)
def graph(request):
    return request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return request.param


@pytest.fixture
def models(case, exported):
    activation, operator = case
    return exported(activation.stem(operator))


@pytest.fixture
def model(models, graph, dtype):
    return models[graph, dtype].clone()
