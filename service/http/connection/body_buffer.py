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
    """Body of a request that is incomplete, or waits in the queue; with the timer for its rest."""

    __slots__ = ("_body", "_timer")

    def __init__(self) -> None:
        self._body: bytes | bytearray = b""
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._body)

    def append(self, piece: bytes) -> None:
        if not self._body:
            self._body = piece
            return
        # A body may come in thousands of chunks of one byte: each is copied once.
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += piece

    def take(self) -> bytes:
        """Return the body, and empty the buffer."""
        body, self._body = self._body, b""
        return bytes(body)

    @property
    def is_awaited(self) -> bool:
        """True while the timer runs."""
        return self._timer is not None

    def wait(self, loop: asyncio.AbstractEventLoop, on_late: Callable[[], None]) -> None:
        """Start the timer, after which ``on_late`` is called."""
        self._timer = loop.call_later(BODY_WAIT_SECONDS, on_late)

    def stop_waiting(self) -> None:
        """Stop the timer, if it runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
