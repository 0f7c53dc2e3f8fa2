"""ONNX Runtime with or without the kernels' library, with equal settings for all cases."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from torch import Tensor

THREADS = 2
PROVIDERS = ("CPUExecutionProvider",)
WORKERS = ("session.intra_op_thread_affinities", ";".join(map(str, range(2, THREADS + 1))))
"""A processor for each thread besides the caller's; ONNX Runtime counts them from 1. Otherwise the
system may run both threads on one processor for seconds, and halve the speed of that turn."""
ELEMENTS = {
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


def spread(module: str) -> None:
    """Pin each thread to its own processor. OpenMP must know this before it starts."""
    wanted = " ".join(map(str, range(THREADS)))
    if os.environ.get("GOMP_CPU_AFFINITY") != wanted:
        again = [sys.executable, "-m", module, *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {"GOMP_CPU_AFFINITY": wanted})  # noqa: S606
    os.sched_setaffinity(0, {0})


def session(
    model: bytes | str, library: Path | None = None, disabled: Sequence[str] = ()
) -> ort.InferenceSession:
    """Return a session of a model or file, without the optimizers in ``disabled``."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry(*WORKERS)
    if library is not None:
        options.register_custom_ops_library(str(library))
    return ort.InferenceSession(
        model, options, providers=list(PROVIDERS), disabled_optimizers=list(disabled)
    )


def bound(
    model: bytes, inputs: Sequence[Tensor], outputs: Sequence[Tensor], library: Path | None = None
) -> Callable[[], None]:
    """Return a call of ``model`` that reads ``inputs`` and writes ``outputs`` without copies."""
    opened = session(model, library)
    binding = opened.io_binding()
    names = [value.name for value in opened.get_inputs()][: len(inputs)]
    for name, tensor in zip(names, inputs, strict=True):
        binding.bind_input(name, *_place(tensor))
    names = [value.name for value in opened.get_outputs()]
    for name, tensor in zip(names, outputs, strict=True):
        binding.bind_output(name, *_place(tensor))
    return functools.partial(opened.run_with_iobinding, binding)


def single_node(op_type: str, dtype: str, count: int) -> bytes:
    """Return a model of one standard operator with ``count`` inputs."""
    names = ["a", "b"][:count]
    element = ELEMENTS[dtype]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"])],
        op_type,
        [helper.make_tensor_value_info(name, element, ["n"]) for name in names],
        [helper.make_tensor_value_info("y", element, ["n"])],
    )
    return _model(graph)


def instructions(library: Path) -> str:
    """Return the instruction set that the library uses on this machine."""
    domain = "ai.gatewave"
    graph = helper.make_graph(
        [helper.make_node("Kernels", [], ["text"], domain=domain)],
        "kernels",
        [],
        [helper.make_tensor_value_info("text", TensorProto.UINT8, ["n"])],
    )
    (text,) = session(_model(graph, helper.make_opsetid(domain, 1)), library).run(None, {})
    name: str = json.loads(text.tobytes())["instructions"]
    return name


def _model(graph: onnx.GraphProto, *domains: onnx.OperatorSetIdProto) -> bytes:
    imports = [helper.make_opsetid("", 17), *domains]
    content: bytes = helper.make_model(
        graph, opset_imports=imports, ir_version=8
    ).SerializeToString()
    return content


def _place(tensor: Tensor) -> tuple[Any, ...]:
    element = ELEMENTS[str(tensor.dtype).removeprefix("torch.")]
    return "cpu", 0, element, list(tensor.shape), tensor.data_ptr()
