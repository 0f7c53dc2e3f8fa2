"""Timing of alternatives in turns, which exposes all to the same changes of the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEAST_SECONDS = 0.01
"""A turn repeats its call until it lasts this long."""

WARMING_SECONDS = 0.03
"""Warm-up before a turn. Until then the system may run a pool's threads on one processor."""

LONGEST_REST = 0.5
REST = 0.012
"""Time that is longer than the accounting ticks of threads, which are 4 or 10 ms."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Ratio of the times of two calls: the median of their turns, and quartiles."""

    low: float
    median: float
    high: float


def turns(calls: Mapping[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Return the seconds per call in ``count`` turns. In each turn, the calls run one by one."""
    repeats = {name: _repeats(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            _rest()
            _warm(call)
            samples[name].append(_seconds(call, repeats[name]))
    return samples


def ratio(ones: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the ratio of ``ones`` to ``others``, turn by turn: effects on both cancel."""
    found = [one / other for one, other in zip(ones, others, strict=True)]
    return Ratio(*statistics.quantiles(found, n=4, method="inclusive"))


def _rest() -> None:
    """Wait until no thread of this process runs.

    Idle threads of ONNX Runtime and OpenMP spin for tens of milliseconds. They would take a
    processor from the next turn.
    """
    ends = time.perf_counter() + LONGEST_REST
    busy = REST
    while busy > REST / 4 and time.perf_counter() < ends:
        began = time.process_time()
        time.sleep(REST)
        busy = time.process_time() - began


def _warm(call: Callable[[], object]) -> None:
    """Wake the threads of the call, and fill the caches."""
    ends = time.perf_counter() + WARMING_SECONDS
    call()
    while time.perf_counter() < ends:
        call()


def _seconds(call: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def _repeats(call: Callable[[], object]) -> int:
    call()
    shortest = min(_seconds(call, 1) for _ in range(3))  # an interruption makes one of them long
    return max(1, round(LEAST_SECONDS / max(shortest, 1e-9)))


def machine() -> str:
    """Describe the machine."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} processors"
