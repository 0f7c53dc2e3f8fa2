"""From the numbers that files hold to the dtype that is computed in, never silently to infinity."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gatewave.files.errors import ContentError
from service.dtypes import NUMPY, DType, to_odd

NUMPY_DTYPES = MappingProxyType(NUMPY)

Place = Callable[[int], str]
"""Says where an element stands, by its index in the chunk: file, tensor, index."""


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether elements are integers, or floats of 16, 32 or 64 bits in either byte order."""
    return dtype.kind in "iu" or dtype.newbyteorder("=") in NUMPY_DTYPES.values()


def as_dtype(values: NDArray[Any], dtype: DType, place: Place) -> NDArray[Any]:
    """The values in ``dtype``, each rounded once to the nearest; as they are where they have it.

    Raises:
        ContentError: A finite value rounds to infinity.
    """
    wanted = NUMPY_DTYPES[dtype]
    if values.dtype == wanted:
        return values
    with np.errstate(all="ignore"):
        converted = to_odd(values).astype(wanted) if dtype == "bfloat16" else values.astype(wanted)
    lost = np.flatnonzero(np.isinf(converted) & np.isfinite(values))
    if lost.size:
        raise beyond(place(int(lost[0])), values[lost[0]].item(), dtype)
    return converted


def beyond(place: str, value: object, dtype: DType) -> ContentError:
    largest = float(ml_dtypes.finfo(NUMPY_DTYPES[dtype]).max)  # type: ignore[no-untyped-call]
    return ContentError(f"{place}: {value} is beyond {dtype}, which ends at {largest:.6g}")
