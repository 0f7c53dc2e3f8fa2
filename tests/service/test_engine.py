"""ONNX Runtime as it is started, and the processors that it may use."""

import pytest

from service import cpus
from service.engine import CPU, CUDA, Engine
from service.errors import DeviceUnavailable


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
