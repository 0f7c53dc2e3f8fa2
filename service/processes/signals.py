"""Signals that the supervisor handles, as events of its selector."""

from __future__ import annotations

import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

MAX_READ = 1 << 12


class SignalQueue:
    """Received signals, in order; each one wakes the wait for events."""

    def __init__(self) -> None:
        self._received: list[int] = []

    def take(self) -> int | None:
        """Return the next signal, or None."""
        return self._received.pop(0) if self._received else None

    def discard(self, sig: int) -> None:
        """Remove all occurrences of ``sig``."""
        self._received = [other for other in self._received if other != sig]

    @contextmanager
    def listening(self, events: selectors.BaseSelector) -> Iterator[None]:
        """Collect signals, and wake ``events`` for each of them and for the end of each child."""
        woken, waking = socket.socketpair()
        waking.setblocking(False)
        with woken, waking:
            events.register(woken, selectors.EVENT_READ, lambda: woken.recv(MAX_READ))
            before = signal.set_wakeup_fd(waking.fileno())
            handlers = {sig: signal.signal(sig, self._note) for sig in HANDLED}
            handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
            # `launch.become` has blocked them before exec, when there were no handlers yet.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
            try:
                yield
            finally:
                for sig, handler in handlers.items():
                    signal.signal(sig, handler)
                signal.set_wakeup_fd(before)

    def _note(self, sig: int, _: FrameType | None) -> None:
        self._received.append(sig)


def signal_name(number: int) -> str:
    """Return the name of a signal, or its number if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
