"""How long a service that was told to end goes on."""

from __future__ import annotations

import signal

OVERTIME_SECONDS = 1.0
"""How long threads and the like have to end, after the time for requests is up."""


def grace_of(sig: int, grace_seconds: float) -> float:
    """How long new requests are taken after a signal; Ctrl-C is pressed where nothing balances."""
    return grace_seconds if sig == signal.SIGTERM else 0.0
