"""Timeout of request heads that do not arrive."""

from __future__ import annotations

from collections.abc import Iterable

from gatewave.service.http.connection.connection import Connection

HEAD_SECONDS = 30
"""Seconds after which an incomplete head is overdue. Connections are compared once in this time: a
head has between one and two times as long."""


class HeadTimeout:
    """Closes the connections that await the same request at two checks in a row."""

    def __init__(self) -> None:
        self._awaited: dict[Connection, object | None] = {}

    def check(self, connections: Iterable[Connection]) -> None:
        """Close overdue connections; called every `HEAD_SECONDS`."""
        # An incomplete next request does not end the answer to the one before.
        awaited = {c: c.awaited if c.is_free else None for c in connections}
        for connection, request in awaited.items():
            if request is not None and self._awaited.get(connection) is request:
                connection.transport.close()
        self._awaited = awaited
