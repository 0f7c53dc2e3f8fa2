"""Cancellation of work in a thread when its result is no longer needed."""

from __future__ import annotations

import time
from contextvars import ContextVar

from gatewave.service.errors import DeadlineExceeded

GONE = "the caller has gone, and the work was ended"
LATE = "the deadline passed while the request was read"


class CancelToken:
    """State of a piece of work: whether its caller still waits, and when its deadline is.

    Attributes:
        deadline: In seconds of `time.monotonic`; None means no deadline.
        is_cancelled: Set from the event loop, read in the thread that works.
    """

    __slots__ = ("deadline", "is_cancelled")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

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
