"""Model of strings, for the tests of several routes."""

import pytest
from onnx import TensorProto
from onnx_models import unary
from repository_models import added


@pytest.fixture(scope="module")
def words(app, tmp_path_factory):
    """Name of a model that returns its strings."""
    made = unary("Identity", ["n"], TensorProto.STRING)
    with added(app.state.service, tmp_path_factory.mktemp("words"), "words", made):
        yield "words"
