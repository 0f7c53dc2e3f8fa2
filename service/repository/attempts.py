"""Attempts to load versions, so that unchanged files are not tried again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from gatewave.service.repository.folder import Fingerprint

FIRST_WAIT = 30.0
"""Seconds until a trial without a result is repeated; the delay doubles with each repetition."""
MAX_WAIT = 3600.0
"""Longest delay, in seconds: a graph that never ends costs one trial an hour."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One trial of a version.

    Attributes:
        fingerprint: The fingerprint of the files that were tried.
        wait: Seconds until unchanged files are tried again; infinite if the trial had a result.
        again: The time of that, by `time.monotonic`.
    """

    fingerprint: Fingerprint
    wait: float = inf
    again: float = inf

    def is_of(self, fingerprint: Fingerprint) -> bool:
        """Return whether another trial of these files is not useful now."""
        return self.fingerprint == fingerprint and time.monotonic() < self.again


def unfinished(fingerprint: Fingerprint, before: Attempt | None) -> Attempt:
    """Return an attempt without a result, which is repeated after a growing delay."""
    repeated = before is not None and before.fingerprint == fingerprint and before.wait < inf
    wait = min(2 * before.wait, MAX_WAIT) if before and repeated else FIRST_WAIT
    return Attempt(fingerprint, wait, time.monotonic() + wait)
