"""Times of a service between the request to end and its end."""

from __future__ import annotations

import signal

OVERTIME_SECONDS = 1.0
"""Seconds in which threads must end, after the time for requests."""


def grace_of(sig: int, grace_seconds: float) -> float:
    """Return the seconds of service after ``sig``; Ctrl-C has none, without a load balancer."""
    return grace_seconds if sig == signal.SIGTERM else 0.0
