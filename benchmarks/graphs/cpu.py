"""CPU time of two models in one thread, measured in turns."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.timing import Ratio, ratio

LEAST_SECONDS = 0.05
"""CPU seconds of a turn; it repeats its call until it has used them."""


def ratios(
    original: Path, fused: Path, inputs: Mapping[str, np.ndarray], library: Path, count: int
) -> tuple[Ratio, Ratio]:
    """Return the CPU time of ``fused``, with and without kernels, relative to ``original``.

    Args:
        original: A model.
        fused: The same, fused.
        inputs: Inputs of both.
        library: The kernels.
        count: The number of turns.
    """
    calls = [
        _call(original, inputs, None),
        _call(fused, inputs, library),
        _call(fused, inputs, None),
    ]
    repeats = [max(1, round(LEAST_SECONDS / max(_seconds(call, 1), 1e-9))) for call in calls]
    samples: list[list[float]] = [[] for _ in calls]
    for turn in range(count):
        # The order changes each turn, so a processor that slows down favours neither model.
        for index in (0, 1, 2) if turn % 2 else (2, 1, 0):
            samples[index].append(_seconds(calls[index], repeats[index]))
    return ratio(samples[1], samples[0]), ratio(samples[2], samples[0])


def _call(
    path: Path, inputs: Mapping[str, np.ndarray], library: Path | None
) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return functools.partial(session.run, None, dict(inputs))


def _seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    began = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - began) / repeats
