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


def narrowed(exact: Array, dtype: DType) -> tuple[Array, NDArray[np.bool_] | None]:
    """``exact``, of any numbers, rounded once to ``dtype``; and where that made them infinite."""
    with np.errstate(all="ignore"):
        nearest = _to_odd(exact) if dtype == "bfloat16" else exact
        array = nearest.astype(NUMPY[dtype], copy=False)
    if np.isfinite(array).all():
        return array, None
    lost = np.isinf(array) & np.isfinite(exact)
    return array, lost if lost.any() else None


def _to_odd(values: Array) -> NDArray[np.float32]:
    """The values in float32, the inexact ones with an odd last bit: all that one rounding needs.

    ml_dtypes goes from float64 to bfloat16 by way of the nearest float32. Rounded to nearest twice,
    1 + 2^-8 + 2^-40 would become 1.
    """
    near = values.astype(np.float32)
    exact = values.astype(np.float64)
    odd = near.view(np.uint32) & 1 == 1
    outward = np.copysign(np.float32(np.inf), exact - near).astype(np.float32)
    return np.where((near == exact) | odd, near, np.nextafter(near, outward))
