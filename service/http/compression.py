"""Content codings of bodies and answers: gzip, and deflate in zlib's format, as in RFC 9110."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache, partial

from gatewave.service.codecs.bodies import Body
from gatewave.service.errors import BodyMalformed, BodyTooLong, MediaTypeUnsupported
from gatewave.service.http.media import preferences
from gatewave.service.quoting import Words
from gatewave.service.serving.protocol import Answer

EITHER = zlib.MAX_WBITS | 32
"""Window size with which zlib detects the format by itself."""
CODINGS = ("gzip", "deflate")
MAX_RATIO = 1032
"""Greatest ratio of the length of deflated data before and after."""
PIECE = 1 << 20
"""Bytes that are decompressed at a time; memory is held for each piece."""
FASTEST = 1
WORTHWHILE = 1024
"""Answers with fewer bytes are sent as they are."""
MAX_KEPT = 256
"""Longest header in characters whose preference is kept."""


def coding(header: str | None) -> str | None:
    """Return the content coding of a body, if it has one.

    Raises:
        MediaTypeUnsupported: The service does not know the coding.
    """
    name = (header or "identity").strip().lower()
    if name in CODINGS:
        return name
    if name != "identity":
        raise MediaTypeUnsupported.at("Content-Encoding", f"one of {', '.join(CODINGS)}", name)
    return None


def accepted(header: str | None) -> str | None:
    """Return the coding for an answer that the client prefers, if any; the first of equals.

    Raises:
        LimitExceeded: Too many codings are named.
    """
    if header is None:
        return None
    # The clients of a service send few different headers, and most send one with each request.
    return _preferred(header) if len(header) <= MAX_KEPT else _preferred.__wrapped__(header)


@lru_cache(maxsize=64)
def _preferred(header: str) -> str | None:
    weights = preferences(header, "Accept-Encoding")
    known = [name for name, weight in weights.items() if name in CODINGS and weight > 0]
    return max(known, key=weights.__getitem__, default=None)


def longest(body: Body) -> int:
    """Return an upper bound of the decompressed length of ``body``."""
    return len(body) * MAX_RATIO


class Decompression:
    """Decompression of a body piece by piece, so that memory can be held as it grows.

    Attributes:
        whole: The decompressed bytes until now.

    Args:
        body: The compressed bytes.
        most: Limit on the decompressed bytes.
    """

    def __init__(self, body: Body, most: int) -> None:
        self.whole = bytearray()
        self._most = most
        self._reader = zlib.decompressobj(EITHER)
        self._body = memoryview(body)
        self._position = 0

    def next(self) -> int:
        """Decompress the next piece; return its length, which is 0 at the end.

        Raises:
            BodyTooLong: The body is longer than allowed; at most one piece beyond the limit was
                made.
            BodyMalformed: The body is neither gzip nor zlib, or is incomplete.
        """
        before = len(self.whole)
        while not self._reader.eof and len(self.whole) - before < PIECE:
            # The tail is copied at each step, so the input is passed in pieces too.
            given = self._reader.unconsumed_tail or self._next_input()
            if not given:
                break
            try:
                self.whole += self._reader.decompress(given, PIECE)
            except zlib.error as error:
                raise BodyMalformed.at("body", "gzip or zlib data", Words(error)) from error
            if len(self.whole) > self._most:
                expected = f"at most {self._most} bytes, decompressed"
                raise BodyTooLong.at("body", expected, Words("more"))
        if len(self.whole) == before:
            self._check_end()
        return len(self.whole) - before

    def _next_input(self) -> memoryview:
        piece = self._body[self._position : self._position + PIECE]
        self._position += len(piece)
        return piece

    def _check_end(self) -> None:
        is_all = self._position >= len(self._body) and not self._reader.unused_data
        if not self._reader.eof or not is_all:
            expected = "gzip or zlib data, one piece"
            raise BodyMalformed.at("body", expected, Words("part of it, or more"))


def is_worthwhile(answer: Answer) -> bool:
    """Return whether ``answer`` is long enough to be compressed."""
    return sum(map(len, answer.parts)) >= WORTHWHILE


def encoded(answer: Answer, name: str) -> Answer:
    """Return ``answer`` in the coding ``name``, compressed as fast as possible.

    Numbers do not shrink much at the slower levels.
    """
    compress = partial(gzip.compress, mtime=0) if name == "gzip" else zlib.compress
    body = compress(b"".join(answer.parts), FASTEST)
    coding = ((b"content-encoding", name.encode()), (b"vary", b"accept-encoding"))
    return Answer(answer.media_type, (body,), (*answer.headers, *coding))
