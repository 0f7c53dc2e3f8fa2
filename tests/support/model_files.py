"""Fixtures of tests on ONNX graphs: the graphs of every record, and small models as files."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from verifications import HEAD

from gatewave.graphs.ops.signature import GRAPHS
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verifier import verify


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


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes a model (message, bytes or ONNX text), and returns its path."""

    def save(model, name="model.onnx"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(model, str):
            model = onnx.parser.parse_model(model)
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return path

    return save


@pytest.fixture
def weighted():
    """Return a function from the fields of a tensor to a model that adds it to its input."""

    def model(**fields):
        made = helper.make_model(
            helper.make_graph(
                [helper.make_node("Add", ["x", "w"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
            ),
            opset_imports=[helper.make_opsetid("", 20)],
            ir_version=10,
        )
        made.graph.initializer.append(TensorProto(**{"name": "w", "data_type": 1, **fields}))
        return made

    return model


@pytest.fixture
def sparse(weighted):
    """Return a model that adds the sparse tensor [1, 0, 0, 2, 0] to its input."""
    model = weighted()
    model.graph.ClearField("initializer")
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 3], np.int64), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))
    return model


@pytest.fixture
def outside(weighted):
    """Return a function from external data's entries to a model that adds them to its input."""

    def model(dims=(4,), **entries):
        made = weighted(dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in entries.items():
            made.graph.initializer[0].external_data.add(key=key, value=str(value))
        return made

    return model


@pytest.fixture
def external(saved, outside, tmp_path):
    """Return a model file with data in a file beside it."""
    (tmp_path / "w.bin").write_bytes(bytes(8) + np.arange(4, dtype=np.float32).tobytes())
    return saved(outside(location="w.bin", offset=8, length=16))


@pytest.fixture
def check(saved):
    """Return a function that verifies one graph in ONNX text against another."""

    def run(original, rewritten, head=HEAD, **options):
        paths = [
            saved(text if not isinstance(text, str) else head + text, f"{name}.onnx")
            for name, text in (("original", original), ("rewritten", rewritten))
        ]
        return verify(*paths, VerificationPlan(**{"timeout": 30.0, **options}))

    return run
