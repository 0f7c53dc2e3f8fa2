"""Timeout of clients that do not read their answers.

Bytes that a client does not read occupy memory, and a transport closes only after all of them were
sent.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios

from gatewave.service.http.connection.connection_limits import descriptor_of

WRITE_TIMEOUT_SECONDS = 30.0
"""Seconds in which a client must read a part of the bytes that wait for it."""

SHUTDOWN_WRITE_TIMEOUT_SECONDS = 2.0
"""The same while the server shuts down: closing connections would delay its end."""

log = logging.getLogger(__name__)


class WriteTimeout:
    """Timer that aborts a connection if its client stops reading its answers.

    It refers to the transport only. A reference to the connection would be a cycle, which keeps
    the scopes of its requests until the garbage collector runs.

    Args:
        transport: Transport of the connection.
        seconds: Seconds in which the client must read something.
    """

    __slots__ = ("_seconds", "_timer", "_transport")

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        self._transport = transport
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def restart(self) -> None:
        """Wait for the client to read, if bytes wait for it.

        Writing is paused or has ended: the count of waiting bytes only falls. The client has
        read something if the count is lower after the timeout.
        """
        self.stop()
        if self._transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, self._check, untaken(self._transport))

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shorten(self) -> None:
        """Wait at most `SHUTDOWN_WRITE_TIMEOUT_SECONDS` from now on."""
        self._seconds = min(self._seconds, SHUTDOWN_WRITE_TIMEOUT_SECONDS)
        self.restart()

    def expire(self) -> None:
        """Abort the connection, and discard the bytes that wait."""
        log.info("a client that did not take its answer was cut off")
        self._transport.abort()

    def _check(self, before: int) -> None:
        if untaken(self._transport) < before:
            self.restart()
        else:
            self.expire()


def untaken(transport: asyncio.Transport) -> int:
    """Return the number of written bytes that the client's system has not acknowledged.

    This includes the kernel's buffer. It holds megabytes, and accepts more only after a third of
    them has gone, which can take a slow client minutes: the transport's own buffer alone would
    look as if the client did not read.
    """
    request = descriptor_of(transport), termios.TIOCOUTQ, bytes(4)
    (queued,) = struct.unpack("i", fcntl.ioctl(*request))
    return transport.get_write_buffer_size() + int(queued)
