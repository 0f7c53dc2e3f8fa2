"""Clients that take no answer: they are cut off.

What waits for a client is memory, and closing a connection waits too, until all was taken.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
import weakref
from typing import Any

from gatewave.service.http.connection.bounds import Bounded
from gatewave.service.serving.memory import READER

PATIENCE_SECONDS = 30.0
"""How long a client may take nothing of an answer that waits for it."""

LAST_PATIENCE_SECONDS = 2.0
"""The same when the server ends, and waits for nothing else."""

log = logging.getLogger(__name__)


class Patient(Bounded):
    """A connection that waits so long, and no longer, for its client to take something.

    Args:
        patience: How many seconds that may take.
    """

    def __init__(self, *args: Any, patience: float = PATIENCE_SECONDS, **options: Any) -> None:
        super().__init__(*args, **options)
        self._patience = patience
        self._watch: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        # Not the connection itself: the scope would keep it, and it keeps the scope.
        self.scope[READER] = weakref.proxy(self)  # type: ignore[literal-required]  # ours
        super().begin()

    def untaken(self) -> int:
        """Return how many bytes of its answers the client has not taken."""
        return 0 if self.transport.is_closing() else _untaken(self.transport)

    def shutdown(self) -> None:
        super().shutdown()
        self._patience = min(self._patience, LAST_PATIENCE_SECONDS)
        self._look_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._look_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._look_no_more()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._look_later()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.cut_off()
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        self._look_no_more()
        super().connection_lost(exc)

    def _close(self) -> None:
        super()._close()
        self._look_later()

    def _look_later(self) -> None:
        """See, when patience ends, whether anything was taken of what waits now, if anything does.

        Nothing is added to it meanwhile: writing is paused, or over.
        """
        self._look_no_more()
        if self.transport.get_write_buffer_size():
            untaken = _untaken(self.transport)
            self._watch = self.loop.call_later(self._patience, self._look, untaken)

    def _look_no_more(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self, before: int) -> None:
        if _untaken(self.transport) < before:
            self._look_later()
        else:
            self.cut_off()

    def cut_off(self) -> None:
        """Close the connection, and forget what waits."""
        log.info("a client that did not take its answer was cut off")
        self.transport.abort()


def _untaken(transport: asyncio.Transport) -> int:
    """How many bytes the other side's system has not taken yet.

    Not only those that wait here: the kernel holds megabytes, and takes more only when a third of
    them has gone, which can take a slow client minutes.
    """
    descriptor: int = transport.get_extra_info("socket").fileno()
    (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    return transport.get_write_buffer_size() + int(queued)
