"""The graphs of every record; and models as files, small and by hand."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from verifications import HEAD

from gatewave.export.signature import GRAPHS
from gatewave.export.verification.comparison import VerificationPlan
from gatewave.export.verification.verifier import verify


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
    """Writes a model, given as a message, bytes or ONNX text, and gives its path."""

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
    """A model that adds a tensor to its input; given what the tensor's message is to hold."""

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
    """Likewise, of a tensor that is [1, 0, 0, 2, 0]."""
    model = weighted()
    model.graph.ClearField("initializer")
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 3], np.int64), "w_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))
    return model


@pytest.fixture
def outside(weighted):
    """Likewise, of external data; given the entries that say where they are."""

    def model(dims=(4,), **entries):
        made = weighted(dims=dims, data_location=TensorProto.EXTERNAL)
        for key, value in entries.items():
            made.graph.initializer[0].external_data.add(key=key, value=str(value))
        return made

    return model


@pytest.fixture
def external(saved, outside, tmp_path):
    """A model whose data are in a file beside it."""
    (tmp_path / "w.bin").write_bytes(bytes(8) + np.arange(4, dtype=np.float32).tobytes())
    return saved(outside(location="w.bin", offset=8, length=16))


@pytest.fixture
def check(saved):
    """Verifies one graph, in ONNX text, against another, and gives the report."""

    def run(original, rewritten, head=HEAD, **options):
        paths = [
            saved(text if not isinstance(text, str) else head + text, f"{name}.onnx")
            for name, text in (("original", original), ("rewritten", rewritten))
        ]
        return verify(*paths, VerificationPlan(**{"timeout": 30.0, **options}))

    return run
