"""Buffer for the body of a request that the fast path may answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

MAX_BUFFERED_BYTES = 1 << 18
"""Longest announced body that is buffered while it is incomplete, in bytes."""

BODY_WAIT_SECONDS = 0.1
"""Seconds for which the fast path waits for the rest of a body. Many clients send the head and the
body in two pieces."""


class BodyBuffer:
    """Body of a request that is incomplete, or waits in the queue; with the timer for its rest.

    Attributes:
        data: The bytes so far.
        timer: Timer after which the rest is late, while it runs.
    """

    __slots__ = ("data", "timer")

    def __init__(self) -> None:
        self.data: bytes | bytearray = b""
        self.timer: asyncio.TimerHandle | None = None

    def append(self, piece: bytes) -> None:
        if not self.data:
            self.data = piece
            return
        # A body may come in thousands of chunks of one byte: each is copied once.
        if isinstance(self.data, bytes):
            self.data = bytearray(self.data)
        self.data += piece

    def take(self) -> bytes:
        """Return the body, and empty the buffer."""
        body, self.data = self.data, b""
        return bytes(body)

    def wait(self, loop: asyncio.AbstractEventLoop, on_late: Callable[[], None]) -> None:
        """Start the timer, after which ``on_late`` is called."""
        self.timer = loop.call_later(BODY_WAIT_SECONDS, on_late)

    def stop_waiting(self) -> None:
        """Stop the timer, if it runs."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
