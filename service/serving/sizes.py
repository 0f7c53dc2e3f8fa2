"""Size of computed results, which the shapes of the inputs do not always determine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import LimitExceeded


def check_results(results: Mapping[str, Array], most: int) -> None:
    """Refuse results of more than ``most`` bytes.

    Raises:
        LimitExceeded: They take more.
    """
    size = sum(map(_bytes, results.values()))
    if size > most:
        raise LimitExceeded.at("outputs", f"outputs of at most {most} bytes", size)


def _bytes(tensor: Array) -> int:
    """Return the bytes of ``tensor``, strings included, in the form in which they are sent."""
    if tensor.dtype != np.object_:
        return tensor.nbytes
    return tensor.nbytes + sum(map(_length, tensor.flat))


def _length(text: str) -> int:
    # Encoding an ASCII string would copy it to learn a length that is known.
    return len(text) if text.isascii() else len(text.encode())
