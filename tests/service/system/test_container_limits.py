"""Processors and memory that a container may use."""

import pytest

from gatewave.service.system import cpus, memory


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
