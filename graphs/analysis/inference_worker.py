"""Handlers of ONNX's shape inference, for `graphs/processes/worker.py`.

With `data_prop` the inference follows the values of small tensors, such as shapes. A model of a few
bytes can make such a tensor of 2⁴⁰ elements, and the inference does not always raise when memory is
used up: it may crash. It therefore runs in a process with little memory.

This file imports nothing of this package: the import of ``onnx`` is most of the start.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.shape_inference

STATM = Path("/proc/self/statm")

MAX_MEMORY = 2**30
"""Limit on the memory of inference in bytes; its result is far smaller."""


def start() -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    _limit_memory()
    return {}, {"infer": infer}


def infer(values: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the value ``model`` with inferred types and shapes."""
    model = onnx.ModelProto.FromString(values["model"].tobytes())
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except MemoryError:
        # The process ends: what a failed allocation leaves behind in C++ is not to be relied on.
        sys.exit("MemoryError")
    return {}, {"model": np.frombuffer(model.SerializeToString(), np.uint8)}


def _limit_memory() -> None:
    """Limit the address space to that of the imported libraries and `MAX_MEMORY`."""
    if not STATM.exists():  # only Linux tells what a process has
        return
    pages = int(STATM.read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MAX_MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
