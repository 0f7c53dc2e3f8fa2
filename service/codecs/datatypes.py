"""Element types of tensors: names in the Open Inference Protocol, NumPy, ONNX and ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# ONNX's TensorProto.DataType
FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL = 1, 2, 3, 4, 5, 6, 7, 8, 9
FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 10, 11, 12, 13, 16


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type.

    Attributes:
        name: Name in the Open Inference Protocol; ``BF16`` is Triton's extension to it.
        numpy: NumPy's dtype; strings are ``object`` arrays of ``bytes``.
        onnx: Number in ONNX's ``TensorProto.DataType``.
        ort: ONNX Runtime's name for tensors of this type.
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
        ("BOOL", np.bool_, BOOL, "bool"),
        ("UINT8", np.uint8, UINT8, "uint8"),
        ("UINT16", np.uint16, UINT16, "uint16"),
        ("UINT32", np.uint32, UINT32, "uint32"),
        ("UINT64", np.uint64, UINT64, "uint64"),
        ("INT8", np.int8, INT8, "int8"),
        ("INT16", np.int16, INT16, "int16"),
        ("INT32", np.int32, INT32, "int32"),
        ("INT64", np.int64, INT64, "int64"),
        ("FP16", np.float16, FLOAT16, "float16"),
        ("FP32", np.float32, FLOAT, "float"),
        ("FP64", np.float64, DOUBLE, "double"),
        ("BF16", ml_dtypes.bfloat16, BFLOAT16, "bfloat16"),
        (BYTES, np.object_, STRING, "string"),
    )
}

BY_ORT: dict[str, Datatype] = {kind.ort: kind for kind in DATATYPES.values()}
BY_NUMPY: dict[np.dtype[Any], Datatype] = {kind.numpy: kind for kind in DATATYPES.values()}

DType = Literal["float16", "bfloat16", "float32", "float64"]
"""Element type of an activation."""
DTYPES: tuple[DType, ...] = get_args(DType)
NUMPY: dict[DType, np.dtype[Any]] = {
    "float16": DATATYPES["FP16"].numpy,
    "bfloat16": DATATYPES["BF16"].numpy,
    "float32": DATATYPES["FP32"].numpy,
    "float64": DATATYPES["FP64"].numpy,
}


def datatype_of(array: Array) -> Datatype:
    return BY_NUMPY[array.dtype]
