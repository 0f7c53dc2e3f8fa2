"""Requests that ask for another protocol: their Upgrade field is ignored.

A server may ignore Upgrade (RFC 9110, section 7.8). The body then belongs to the request.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def feed(connection: HttpToolsProtocol, data: bytes) -> None:
    """Parse ``data``, and ignore Upgrade fields in it."""
    rest: bytes | memoryview = data
    while True:
        try:
            connection.parser.feed_data(rest)
        except httptools.HttpParserUpgrade as upgrade:
            # The offset counts from the start of the bytes that were fed.
            rest = memoryview(data)[len(data) - len(rest) + upgrade.args[0] :]
            _parse_head_again(connection)
        else:
            return


def _parse_head_again(connection: HttpToolsProtocol) -> None:
    """Parse the last head again in a new parser, without its Upgrade field.

    llhttp stops at a head that asks for an upgrade: the body would be lost, or be read as the next
    request, which makes request smuggling possible. httptools cannot tell llhttp to ignore the
    field (it would have to return 1 from `on_headers_complete`). The rest of the connection
    therefore needs a parser that did not get the field.
    """
    parser = connection.parser
    start = parser.get_method(), connection.url, parser.get_http_version().encode()
    lines = [b"%s %s HTTP/%s\r\n" % start]
    # All parts were parsed already: they contain no CR, LF or NUL.
    lines += [b"%s: %s\r\n" % field for field in connection.headers if field[0] != b"upgrade"]
    connection.parser = httptools.HttpRequestParser(connection)
    connection.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # As in uvicorn.
    connection.parser.feed_data(b"".join([*lines, b"\r\n"]))
