"""Sessions of ONNX Runtime and of the reference evaluator, which run models on values by name."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from onnx.helper import tensor_dtype_to_np_dtype as numpy_dtype

from gatewave.graphs.processes.messages import Array, Value


class Session(Protocol):
    """A loaded model."""

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Return all outputs, by name."""


@dataclass(frozen=True)
class ReferenceSession:
    """A model in the reference evaluator."""

    evaluator: Any

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        with np.errstate(all="ignore"):
            results = self.evaluator.run(None, dict(inputs))
        return dict(zip(self.evaluator.output_names, results, strict=True))


@dataclass(frozen=True)
class OnnxRuntimeSession:
    """A model in ONNX Runtime, with inputs and outputs of every element type.

    NumPy's own types are exchanged as arrays. For others, such as bfloat16, ONNX Runtime 1.32.0 has
    "no corresponding Numpy type"; they are exchanged as `OrtValue`.
    """

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
    """Return the value as ONNX Runtime takes it: others than NumPy's own types by their bits."""
    if not isinstance(value, np.ndarray) or value.dtype.isbuiltin == 1:
        return value
    bits = value.view(f"u{value.dtype.itemsize}")
    element = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, element)


def _ort_value(feed: Any) -> ort.OrtValue:
    return feed if isinstance(feed, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(feed)


def _array(value: ort.OrtValue) -> Value:
    # `OrtValue.numpy()` fails for the types that NumPy lacks; their memory is read instead.
    if not value.is_tensor() or _has_numpy_type(value.data_type()):
        return value.numpy()
    dtype = numpy_dtype(value.element_type())
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, dtype).reshape(value.shape())


def flat(results: Mapping[str, Value]) -> dict[str, Array | None]:
    """Return the items of sequences and maps by name, such as ``scores[0]`` and ``scores[cat]``.

    ``scores[]`` is their number.
    """
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
