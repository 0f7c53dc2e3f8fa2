"""The element types served, and what NumPy, ONNX and safetensors call them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

DType = Literal["float16", "bfloat16", "float32", "float64"]
DTYPES: tuple[DType, ...] = get_args(DType)
Array = NDArray[Any]

NUMPY: dict[DType, np.dtype[Any]] = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
ONNX: dict[DType, int] = {"float16": 10, "bfloat16": 16, "float32": 1, "float64": 11}
"""The numbers of ONNX's ``TensorProto.DataType``."""

SAFETENSORS: dict[DType, str] = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def narrowed(exact: NDArray[np.float64], dtype: DType) -> tuple[Array, NDArray[np.bool_] | None]:
    """``exact`` in ``dtype``; and where a finite number became infinite, if anywhere."""
    with np.errstate(over="ignore"):
        array = exact.astype(NUMPY[dtype], copy=False)
    if np.isfinite(array).all():
        return array, None
    lost = np.isinf(array) & np.isfinite(exact)
    return array, lost if lost.any() else None
