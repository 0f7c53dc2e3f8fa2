"""The graphs of every record, exported once a session."""

import functools

import pytest
from records import CASES

from export.graph import graphs_of
from export.signature import GRAPHS


@pytest.fixture(scope="session")
def exported():
    """The models of an operator, by graph and dtype, given its stem."""
    return functools.cache(lambda stem: graphs_of(*CASES[stem]))


@pytest.fixture(params=GRAPHS)
def graph(request):
    return request.param


@pytest.fixture
def models(case, exported):
    activation, operator = case
    return exported(activation.stem(operator))


@pytest.fixture
def model(models, graph, dtype):
    return models[graph, dtype].clone()
