"""The element types of tensors, and what the Open Inference Protocol, NumPy and ONNX call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from gatewave.service.codecs.dtypes import Array


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type.

    Attributes:
        name: In the Open Inference Protocol; ``BF16`` is Triton's extension to it.
        numpy: What NumPy calls it; strings are ``object`` arrays of ``bytes``.
        onnx: Its number in ONNX's ``TensorProto.DataType``.
        ort: What ONNX Runtime calls a tensor of it.
    """

    name: str
    numpy: np.dtype[Any]
    onnx: int
    ort: str

    @property
    def is_float(self) -> bool:
        return self.name in {"BF16", "FP16", "FP32", "FP64"}


BYTES = "BYTES"

DATATYPES: dict[str, Datatype] = {
    name: Datatype(name, np.dtype(kind), onnx, f"tensor({ort})")
    for name, kind, onnx, ort in (
        ("BOOL", np.bool_, 9, "bool"),
        ("UINT8", np.uint8, 2, "uint8"),
        ("UINT16", np.uint16, 4, "uint16"),
        ("UINT32", np.uint32, 12, "uint32"),
        ("UINT64", np.uint64, 13, "uint64"),
        ("INT8", np.int8, 3, "int8"),
        ("INT16", np.int16, 5, "int16"),
        ("INT32", np.int32, 6, "int32"),
        ("INT64", np.int64, 7, "int64"),
        ("FP16", np.float16, 10, "float16"),
        ("FP32", np.float32, 1, "float"),
        ("FP64", np.float64, 11, "double"),
        ("BF16", ml_dtypes.bfloat16, 16, "bfloat16"),
        (BYTES, np.object_, 8, "string"),
    )
}

BY_ORT: dict[str, Datatype] = {kind.ort: kind for kind in DATATYPES.values()}
BY_NUMPY: dict[np.dtype[Any], Datatype] = {kind.numpy: kind for kind in DATATYPES.values()}


def datatype_of(array: Array) -> Datatype:
    return BY_NUMPY[array.dtype]
