"""JSON documents of bounded depth, as Python's objects."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson

from gatewave.service.codecs.bodies import Body
from gatewave.service.errors import BodyMalformed
from gatewave.service.quoting import Words
from gatewave.service.system import cancellation

DEEPEST = 64
"""Greatest depth of JSON for Python's own reader, which is recursive: the stack is finite."""


def parsed(body: Body) -> Any:
    """Return the document in ``body``.

    Raises:
        BodyMalformed: The body is not JSON.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyMalformed.at("body", "JSON", Words(error)) from error
    cancellation.check()
    return document


def parsed_leniently(text: bytes) -> Any:
    """Return the document in ``text``, which may have NaN and Infinity bare, as Python writes them.

    Raises:
        BodyMalformed: The text is not JSON.
    """
    try:
        return parsed(text)
    except BodyMalformed:
        if b"NaN" not in text and b"Infinity" not in text:
            raise
    document = _lenient(text)
    cancellation.check()
    return document


def _lenient(text: bytes) -> Any:
    if max(text.count(b"["), text.count(b"{")) > DEEPEST and _depth(text) > DEEPEST:
        raise BodyMalformed.at("body", f"JSON at most {DEEPEST} deep", Words("more"))
    try:
        document = json.loads(text.decode())
        if b"\\u" in text:
            # Half of a surrogate pair, which no answer that quotes it could be written with.
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BodyMalformed.at("body", "JSON", Words(error)) from error
    return document


def _depth(text: bytes) -> int:
    """Return the depth of the brackets, including those in strings."""
    steps = _STEPS[np.frombuffer(text, np.uint8)]
    return int(steps[steps != 0].cumsum(dtype=np.int64).max(initial=0))


_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
