"""Cancellation of work in a thread when its result is no longer needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

from gatewave.service.errors import DeadlineExceeded

GONE = "the caller has gone, and the work was ended"
LATE = "the deadline passed while the request was read"


class CancelToken:
    """Cancellation of one piece of work, from the event loop to the thread that does the work.

    The work learns of it in one of three ways: it reads `is_cancelled`, it calls `check` between
    bounded pieces, or it registers a callback. ONNX Runtime needs a callback, because it reads only
    its own ``RunOptions.terminate``.

    Attributes:
        deadline: In seconds of `time.monotonic`; None means no deadline.
        is_cancelled: Set by the caller that no longer needs the result, read in any thread.
    """

    __slots__ = ("_callbacks", "deadline", "is_cancelled")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.is_cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """End the work, as soon as it notices; further calls have no effect."""
        self.is_cancelled = True
        for callback in tuple(self._callbacks):
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the token is cancelled, or now if it is already.

        It is called in the thread that cancels, and possibly twice.
        """
        # No lock is needed: `cancel` sets the flag before it reads the callbacks, and the flag is
        # read here after the callback was added. Whichever thread is later makes the call.
        self._callbacks.append(callback)
        if self.is_cancelled:
            callback()

    def check(self) -> None:
        """End the work if its result is no longer needed.

        Raises:
            DeadlineExceeded: The caller has gone, or the deadline has passed.
        """
        if self.is_cancelled:
            raise DeadlineExceeded(GONE)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded(LATE)


_token: ContextVar[CancelToken | None] = ContextVar("cancel_token", default=None)


def install(token: CancelToken) -> None:
    """Make `check` use ``token`` in the current context."""
    _token.set(token)


def check() -> None:
    """End the work in progress if its result is no longer needed; called between bounded pieces.

    Raises:
        DeadlineExceeded: The caller has gone, or the deadline has passed.
    """
    token = _token.get()
    if token is not None:
        token.check()
