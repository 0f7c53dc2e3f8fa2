"""What was tried of a model, so that nothing is tried twice that is as it was."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import inf

from gatewave.service.repository.folder import Fingerprint

FIRST_WAIT = 30.0
"""How soon what came to no end is tried again, in seconds; each time it takes twice as long."""
LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A version that was tried.

    Attributes:
        fingerprint: Of its files then.
        wait: How long until it is tried again though they are the same.
        again: When that is, by `time.monotonic`.
    """

    fingerprint: Fingerprint
    wait: float = inf
    again: float = inf

    def is_of(self, fingerprint: Fingerprint) -> bool:
        """Whether there is nothing to be had from another."""
        return self.fingerprint == fingerprint and time.monotonic() < self.again


def unfinished(fingerprint: Fingerprint, before: Attempt | None) -> Attempt:
    """An attempt that says nothing of the version; a graph without end would be tried for ever."""
    repeated = before is not None and before.fingerprint == fingerprint and before.wait < inf
    wait = min(2 * before.wait, LONGEST_WAIT) if before and repeated else FIRST_WAIT
    return Attempt(fingerprint, wait, time.monotonic() + wait)
