"""Bodies and answers that are compressed: gzip, and deflate in zlib's format, as in RFC 9110."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

from service.errors import BodyMalformed, BodyTooLong, MediaTypeUnsupported, Words
from service.exchange import Body, Part
from service.media import preferences

EITHER = zlib.MAX_WBITS | 32
"""What makes zlib tell the two formats apart by themselves."""
CODINGS = ("gzip", "deflate")
MOST_RATIO = 1032
"""To so many bytes does deflate expand one, at the most."""
FASTEST = 1
WORTHWHILE = 1024
"""Answers with fewer bytes are sent as they are."""


def coding(header: str | None) -> str | None:
    """How a body is compressed, if it is.

    Raises:
        MediaTypeUnsupported: In a way that is not known.
    """
    name = (header or "identity").strip().lower()
    if name in CODINGS:
        return name
    if name != "identity":
        raise MediaTypeUnsupported.at("Content-Encoding", f"one of {', '.join(CODINGS)}", name)
    return None


def accepted(header: str | None) -> str | None:
    """How an answer may be compressed, if it may: as the client likes best, the first of equals.

    Raises:
        LimitExceeded: Too many codings are named.
    """
    weights = preferences(header or "", "Accept-Encoding")
    known = [name for name, weight in weights.items() if name in CODINGS and weight > 0]
    return max(known, key=weights.__getitem__, default=None)


def longest(body: Body) -> int:
    """How many bytes ``body`` may come to, decompressed."""
    return len(body) * MOST_RATIO


def decompressed(body: Body, most: int) -> bytes:
    """What was compressed, and is at most ``most`` bytes long.

    Raises:
        BodyTooLong: It is longer; no more than ``most`` bytes of it were made to find that out.
        BodyMalformed: It is neither gzip nor zlib, or not all of it.
    """
    reader = zlib.decompressobj(EITHER)
    try:
        whole = reader.decompress(body, most + 1)
    except zlib.error as error:
        raise BodyMalformed.at("body", "gzip or zlib data", Words(error)) from error
    if len(whole) > most:
        raise BodyTooLong.at("body", f"at most {most} bytes, decompressed", Words("more"))
    if not reader.eof or reader.unused_data:
        raise BodyMalformed.at("body", "gzip or zlib data, one piece", Words("part of it, or more"))
    return whole


def compressed(parts: Sequence[Part], name: str) -> bytes:
    """``parts`` in one, as fast as possible: numbers do not shrink much."""
    body = b"".join(parts)
    if name == "gzip":
        return gzip.compress(body, FASTEST, mtime=0)
    return zlib.compress(body, FASTEST)
