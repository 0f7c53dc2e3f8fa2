"""Limits on the head of a request, and checks of its fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf

from gatewave.service.errors import (
    HeadTooLong,
    HttpMalformed,
    HttpUnsupported,
    HttpVersionUnsupported,
    ServiceError,
    UrlTooLong,
)
from gatewave.service.quoting import NOTHING, Words

Headers = Sequence[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 1 << 16
"""Limit on the bytes of the URL and the headers of a request, and on those of its trailers."""

MAX_HEADERS = 128
"""Limit on the number of header fields of a request, and on that of its trailers."""

MAX_LENGTH_DIGITS = 19
"""Limit on the digits of Content-Length; a longer number exceeds 64 bits."""

CHECKED_FIELDS = frozenset({b"content-length", b"transfer-encoding", b"host", b"expect"})
"""Header fields with values that are examined as they are parsed."""

HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%_~-]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
"""Value of a Host field: RFC 9110, section 7.2, with the host of RFC 3986, section 3.2.2."""

VERSIONS = frozenset({"1.0", "1.1"})


class HeadCheck:
    """Checks of the header fields that one connection receives.

    Attributes:
        has_host: True if the present request has had a Host field.
    """

    __slots__ = ("_known_host", "has_host")

    def __init__(self) -> None:
        self.has_host = False
        self._known_host: bytes | None = None

    def check_field(self, name: bytes, value: bytes) -> None:
        """Check the value of one of `CHECKED_FIELDS`.

        Raises:
            HttpMalformed: The value is invalid, or a second Host was sent.
            HttpUnsupported: The transfer coding is not ``chunked``.
        """
        match name:
            case b"host":
                if self.has_host:
                    raise HttpMalformed.at("Host", "one field", Words("two"))
                # A client sends the same host with each request: matching costs a microsecond.
                if value != self._known_host and HOST.fullmatch(value) is None:
                    raise HttpMalformed.at("Host", "a host and its port", _text(value))
                self._known_host = value
                self.has_host = True
            case b"content-length" if len(value) > MAX_LENGTH_DIGITS:
                expected = f"at most {MAX_LENGTH_DIGITS} digits"
                raise HttpMalformed.at("Content-Length", expected, len(value))
            case b"transfer-encoding" if value.lower() != b"chunked":
                raise HttpUnsupported.at("Transfer-Encoding", "chunked", _text(value))


def check_version(version: str, *, has_host: bool) -> None:
    """Check the version of a request, and the Host field that it demands.

    Raises:
        HttpMalformed: Host is missing (RFC 9112, section 3.2), or the version.
        HttpVersionUnsupported: The version is neither 1.0 nor 1.1.
    """
    if version in VERSIONS:
        if version == "1.1" and not has_host:
            raise HttpMalformed.at("Host", "one field", NOTHING)
    elif version < "1":  # llhttp reports a request line without a version as HTTP/0.9.
        raise HttpMalformed.at("request line", "a method, a URL and HTTP/1.1", Words("less"))
    else:
        raise HttpVersionUnsupported.at("version", "HTTP/1.1", f"HTTP/{version}")


def check_length(url: bytes, headers: Headers) -> None:
    """Check that the URL and the headers are short enough together.

    Raises:
        UrlTooLong: They are too long, mostly because of the URL.
        HeadTooLong: They are too long.
    """
    if len(url) + sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        raise too_long(url)


def too_long(url: bytes) -> ServiceError:
    """Return the error for a head that exceeds a limit."""
    if len(url) > MAX_HEAD_BYTES // 2:
        return UrlTooLong.at("URL", f"less than {MAX_HEAD_BYTES} bytes", Words("more"))
    expected = f"at most {MAX_HEADERS}, and {MAX_HEAD_BYTES} bytes"
    return HeadTooLong.at("headers", expected, Words("more"))


def length_of(headers: Headers) -> float:
    """Return the announced length of a body in bytes; infinity if it is unknown."""
    return next((int(value) for name, value in headers if name == b"content-length"), inf)


def _text(value: bytes) -> str:
    return value.decode("latin-1")
