"""Process that runs one model, so that a crash or hang does not affect others.

``python -m gatewave.graphs.verify.worker`` writes ``{"ok": true}`` after its imports. Then it
reads messages of `channel` from its standard input. The first message of a key loads a model, each
further one brings inputs. The answers are ``{"ok": true}`` with the outputs and the process's peak
memory, or ``{"error": …}`` with the runtime's words.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from onnx.helper import tensor_dtype_to_np_dtype as numpy_dtype

from gatewave.graphs.processes.channel import Array, Value, receive, send
from gatewave.graphs.verify import instrumentation
from gatewave.graphs.verify.random_replacement import Fixed, fix

FOLDER = "session.model_external_initializers_file_folder_path"
SPINNING = "session.intra_op.allow_spinning"
"""Idle threads would spin while the other model runs."""

EDITS = ("extra", "fixed", "cut", "moved")

MAX_BYTES = 1 << 31

KIBIBYTE = 1024
"""Unit of `ru_maxrss` on Linux."""


class Loaded(Protocol):
    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """All outputs, by name."""


def main() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit_memory()
    send(answers, {"ok": True, "peak": _peak()}, {})
    loaded: dict[int, Loaded] = {}
    while True:
        try:
            message, values = receive(requests)
        except EOFError:
            return
        try:
            key = message["key"]
            if key in loaded:
                results = _bounded(flat(loaded[key].run(values)))
            else:
                loaded[key], results = load(message), {}
        except Exception as error:  # noqa: BLE001 - a model fails as it likes
            send(answers, {"error": f"{type(error).__name__}: {error}"}, {})
        else:
            send(answers, {"ok": True, "peak": _peak()}, results)


def _peak() -> int:
    """Return the peak memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


def _limit_memory() -> None:
    """Limit memory to that of the machine: allocations fail before the system ends processes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def load(message: Mapping[str, Any]) -> Loaded:
    """Load the model as ``message`` describes it: path, runtime, library, edits."""
    path = Path(message["path"])
    if message["runtime"] == "reference":
        from gatewave.graphs.verify.evaluator import evaluator  # noqa: PLC0415 - seldom, and a thousand classes

        return InReference(evaluator(_edited(onnx.load(path), message)))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry(SPINNING, "0")
    if message["library"]:
        options.register_custom_ops_library(message["library"])
    content: str | bytes = str(path)
    if any(message[edit] for edit in EDITS):
        # Only the graph is copied: the weights beside it stay where they are.
        model = _edited(onnx.load(path, load_external_data=False), message)
        options.add_session_config_entry(FOLDER, str(path.parent.resolve()))
        content = model.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return InRuntime(session)


def _edited(model: onnx.ModelProto, message: Mapping[str, Any]) -> onnx.ModelProto:
    if message["cut"]:
        instrumentation.cut(model, instrumentation.Cut(**message["cut"]))
    if message["moved"]:
        instrumentation.multiply(model, message["moved"])
    if message["fixed"]:
        fix(model, Fixed(**message["fixed"]))
    instrumentation.extend(model, message["extra"])
    return model


def _bounded(results: dict[str, Array | None]) -> dict[str, Array | None]:
    """Return ``results``, or an error if they are too large to be sent."""
    size = sum(value.nbytes for value in results.values() if value is not None)
    if size > MAX_BYTES:
        raise MemoryError(f"{size:,} bytes of values were asked for, and {MAX_BYTES:,} are sent")
    return results


@dataclass(frozen=True)
class InReference:
    evaluator: Any

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        with np.errstate(all="ignore"):
            results = self.evaluator.run(None, dict(inputs))
        return dict(zip(self.evaluator.output_names, results, strict=True))


@dataclass(frozen=True)
class InRuntime:
    session: ort.InferenceSession

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        feeds = {name: _feed(value) for name, value in inputs.items()}
        names = [output.name for output in self.session.get_outputs()]
        if all(_has_numpy_type(output.type) for output in self.session.get_outputs()):
            results = self.session.run(names, feeds)
        else:
            given = {name: _ort_value(feed) for name, feed in feeds.items()}
            results = [_array(r) for r in self.session.run_with_ort_values(names, given)]
        return dict(zip(names, results, strict=True))


def _has_numpy_type(kind: str) -> bool:
    """Return true if ONNX Runtime returns NumPy arrays for it; not for ``tensor(bfloat16)``."""
    return not any(word in kind for word in ("bfloat16", "float8", "float4", "int4", "int2"))


def _feed(value: Value) -> Any:
    """The value, as ONNX Runtime takes it: NumPy's own types as they are, others as their bits."""
    if not isinstance(value, np.ndarray) or value.dtype.isbuiltin == 1:
        return value
    bits = value.view(f"u{value.dtype.itemsize}")
    element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element)


def _ort_value(feed: Any) -> ort.OrtValue:
    return feed if isinstance(feed, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(feed)


def _array(value: ort.OrtValue) -> Value:
    if not value.is_tensor() or _has_numpy_type(value.data_type()):
        return value.numpy()
    dtype = numpy_dtype(value.element_type())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, dtype).reshape(value.shape())


def flat(results: Mapping[str, Value]) -> dict[str, Array | None]:
    """Sequences and maps taken apart: ``scores[0]``, ``scores[1]``, ``scores[cat]``."""
    found: dict[str, Array | None] = {}
    for name, value in results.items():
        if isinstance(value, list | tuple | dict):
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            parts = {f"{name}[{key}]": part for key, part in pairs}
            found |= {f"{name}[]": np.array(len(parts)), **flat(parts)}
        else:
            found[name] = None if value is None else _held(value)
    return found


def _held(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


if __name__ == "__main__":
    main()
