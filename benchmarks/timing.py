"""Timing of alternatives in turns, so that a machine's moods touch all alike."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

LEAST_SECONDS = 0.002
"""A turn repeats its call until it lasts this long."""


def medians(calls: Mapping[str, Callable[[], object]], turns: int = 15) -> dict[str, float]:
    """Seconds per call: medians of ``turns`` turns, which the calls take one after the other."""
    repeats = {name: _repeats(call) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            samples[name].append(_seconds(call, repeats[name]))
    return {name: statistics.median(times) for name, times in samples.items()}


def _seconds(call: Callable[[], object], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - began) / repeats


def _repeats(call: Callable[[], object]) -> int:
    call()
    return max(1, round(LEAST_SECONDS / max(_seconds(call, 3), 1e-9)))


def machine() -> str:
    """What this was measured on."""
    information = Path("/proc/cpuinfo")
    text = information.read_text() if information.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} processors"
