"""ONNX Runtime as it is started, and the processors that it may use."""

import numpy as np
import pytest
from graphs import external, unary

from gatewave.service.errors import ArtifactInvalid, DeviceUnavailable
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import CPU, CUDA
from gatewave.service.system import cpus, memory


def test_the_device_is_the_cpu_where_there_is_no_cuda():
    assert Engine.start("auto", threads=1).provider == CPU


def test_cuda_is_refused_where_it_does_not_work():
    with pytest.raises(DeviceUnavailable, match=CUDA):
        Engine.start("cuda", threads=1)


def test_a_device_proves_itself():
    Engine.start("cpu", threads=1).prove()


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "broken"}, None),
        ({}, None),
    ],
)
def test_the_containers_quota_bounds_the_processors(tmp_path, files, most):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    unbounded = cpus.available(tmp_path / "none")
    assert cpus.available(tmp_path) == min(unbounded, most or unbounded)


@pytest.mark.parametrize(
    ("name", "content", "limit"),
    [
        ("memory.max", "1000000\n", 1_000_000),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "2000000\n", 2_000_000),
        ("memory/memory.limit_in_bytes", f"{1 << 62}\n", None),
    ],
)
def test_memory_is_bounded_by_the_container(tmp_path, name, content, limit):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    unbounded = memory.available(tmp_path / "none")
    assert unbounded > 1 << 28
    assert memory.available(tmp_path) == min(unbounded, limit or unbounded)


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
