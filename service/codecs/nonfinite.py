"""Words for the numbers that JSON does not have: NaN and the infinities."""

from __future__ import annotations

from itertools import chain

import numpy as np
import orjson

from gatewave.service.codecs.datatypes import Array

WORDS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
EXPECTED = f"a number, or one of {', '.join(WORDS)}"
"""Expected elements of a list of numbers, for errors."""


def word(number: float) -> bytes:
    """Return the key of `WORDS` for a number that is not finite."""
    if number != number:  # noqa: PLR0124 - NaN is the only number that differs from itself
        return b"NaN"
    return b"Infinity" if number > 0 else b"-Infinity"


def dumps(array: Array, *, quoted: bool = True) -> bytes:
    """Return ``array`` in JSON, with ``WORDS`` as strings, or bare as Python reads them."""
    plain = array if array.ndim else array[()]
    text = orjson.dumps(plain, option=orjson.OPT_SERIALIZE_NUMPY)
    # orjson writes null for each number that is not finite, in the order of the array. No other
    # number has an n in it, and a single byte is found fifty times as fast as the word.
    if b"n" not in text:
        return text
    numbers = array[~np.isfinite(array)].tolist()
    words = [b'"%s"' % word(number) if quoted else word(number) for number in numbers]
    first, *rest = text.split(b"null")
    return first + b"".join(chain(*zip(words, rest, strict=True)))
