"""Rewritten models are written to their files only after verification."""

import onnx_ir as ir
import pytest

from gatewave.graphs.errors import ModelError, NotRunnableError, VerificationError
from gatewave.graphs.files import files
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verified_files import write_verified

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
agraph (float[N] x) => (float[N] y) { g = Sigmoid(x) y = Mul(x, g) }"""


@pytest.fixture
def source(saved):
    return saved(MODEL, "source.onnx")


def test_what_computes_the_same_is_written_and_reported(source, tmp_path):
    target = tmp_path / "new" / "target.onnx"
    report = write_verified(files.read(source), target, source=source, sites=["g"])
    assert report.holds
    assert (report.original, report.rewritten) == (str(source), str(target))
    assert [site.name for site in report.sites] == ["g"]
    assert files.read(target).graph.num_nodes() == 2


@pytest.mark.parametrize("existing", [None, b"what was there"])
def test_what_differs_is_not_and_leaves_nothing_behind(source, tmp_path, existing):
    target = tmp_path / "target.onnx"
    if existing:
        target.write_bytes(existing)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    model = files.read(source)
    model.graph.node(0).op_type = "Tanh"
    with pytest.raises(VerificationError, match=r"source.onnx, rewritten, differs: y\[") as caught:
        write_verified(model, target, source=source)
    assert not caught.value.report.holds
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_that_cannot_be_verified_is_not_written(source, tmp_path):
    model = files.read(source)
    model.graph.node(0).domain = "com.acme"
    model.opset_imports["com.acme"] = 1
    target = tmp_path / "target.onnx"
    with pytest.raises(VerificationError, match=r"com\.acme"):
        write_verified(model, target, source=source)
    strange = tmp_path / "strange.onnx"
    files.write(model, strange, source=source)
    with pytest.raises(NotRunnableError, match=r"com\.acme"):
        write_verified(model, target, source=strange)
    assert not target.exists()


def test_a_whole_that_is_over_what_may_be_written_over_is_refused(source):
    with pytest.raises(ModelError, match="is the model that was read"):
        write_verified(files.read(source), source, source=source, plan=VerificationPlan())


def test_data_beside_the_model_are_verified_and_moved_with_it(source, tmp_path):
    model = files.read(source)
    model.graph.node(1).name = "last"
    path = tmp_path / "bin"
    path.write_bytes(b"\0\0\x80?" * 600)
    weights = ir.ExternalTensor(
        "bin", 0, 2400, ir.DataType.FLOAT, name="w", shape=ir.Shape([600]), base_dir=tmp_path
    )
    value = ir.Value(name="w", shape=weights.shape, type=ir.TensorType(ir.DataType.FLOAT))
    value.const_value = weights
    model.graph.register_initializer(value)
    target = tmp_path / "elsewhere" / "target.onnx"
    assert write_verified(model, target, source=source).holds
    assert len(list(target.parent.iterdir())) == 2
