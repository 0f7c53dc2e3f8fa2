"""Start of ONNX Runtime, and the sessions that it opens."""

import numpy as np
import pytest
from onnx_models import external, unary

from gatewave.service.errors import ArtifactInvalid, DeviceUnavailable
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CPU, CUDA


def test_the_device_is_the_cpu_where_there_is_no_cuda():
    assert Engine.start("auto", threads=1).provider == CPU


def test_cuda_is_refused_where_it_does_not_work():
    with pytest.raises(DeviceUnavailable, match=CUDA):
        Engine.start("cuda", threads=1)


def test_a_device_proves_itself():
    Engine.start("cpu", threads=1).verify()


def test_no_file_is_opened_for_a_session(tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(np.float32([2, 3]).tobytes())
    monkeypatch.chdir(tmp_path)
    made = external("weights").SerializeToString()
    engine = Engine.start("cpu", 1)
    with pytest.raises(ArtifactInvalid, match="weights"):
        engine.open(tmp_path / "model.onnx", made)
    with pytest.raises(ArtifactInvalid, match="weights"):
        engine.open(tmp_path / "model.onnx", made, data={"other": np.zeros(8, np.uint8)})


def test_bytes_that_look_like_another_format_are_read_as_onnx(tmp_path):
    """ONNX Runtime recognizes its own format by bytes 4 to 8."""
    made = unary("Neg")
    made.producer_name = "ORTM"
    raw = made.SerializeToString()
    assert raw[4:8] == b"ORTM"
    session, _ = Engine.start("cpu", 1).open(tmp_path / "model.onnx", raw)
    (y,) = session.run(None, {"x": np.float32([[1, 2]])})
    assert y.tolist() == [[-1.0, -2.0]]
