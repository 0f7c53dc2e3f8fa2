"""Bodies and answers that are compressed: gzip, and deflate in zlib's format, as in RFC 9110."""

from __future__ import annotations

import gzip
import zlib

from service.errors import BodyMalformed, BodyTooLong, MediaTypeUnsupported, Words
from service.exchange import Body

EITHER = zlib.MAX_WBITS | 32
"""What makes zlib tell the two formats apart by themselves."""
CODINGS = ("gzip", "deflate")
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
    """How an answer may be compressed, if it may: the first that the client takes."""
    for part in (header or "").lower().split(","):
        name, _, quality = part.partition(";")
        if name.strip() in CODINGS and quality.replace(" ", "") not in {"q=0", "q=0.0"}:
            return name.strip()
    return None


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


def compressed(body: Body, name: str) -> bytes:
    """``body``, as fast as possible: numbers do not shrink much."""
    if name == "gzip":
        return gzip.compress(body, FASTEST, mtime=0)
    return zlib.compress(body, FASTEST)
