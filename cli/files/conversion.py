"""Conversion of a file's numbers to the dtype of the computation; overflow is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gatewave.cli.files.errors import ContentError
from gatewave.service.codecs.datatypes import NUMPY, DType
from gatewave.service.codecs.rounding import narrowed

PlaceName = Callable[[int], str]
"""Returns the place of an element for messages, from its index in the chunk."""


def is_number(dtype: np.dtype[Any]) -> bool:
    """Return true for integers, and for floats of 16, 32 or 64 bits in either byte order."""
    return dtype.kind in "iu" or dtype.newbyteorder("=") in NUMPY.values()


def as_dtype(values: NDArray[Any], dtype: DType, place: PlaceName) -> NDArray[Any]:
    """Return the values in ``dtype``, each rounded once to the nearest; the same array if it fits.

    Raises:
        ContentError: A finite value rounds to infinity.
    """
    if values.dtype == NUMPY[dtype]:
        return values
    converted, lost = narrowed(values, dtype)
    if lost is not None:
        first = int(lost.argmax())
        raise beyond(place(first), values[first].item(), dtype)
    return converted


def beyond(place: str, value: object, dtype: DType) -> ContentError:
    largest = float(ml_dtypes.finfo(NUMPY[dtype]).max)  # type: ignore[no-untyped-call]
    return ContentError(f"{place}: {value} is beyond {dtype}, which ends at {largest:.6g}")
