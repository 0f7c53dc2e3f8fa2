"""Bounded queue of the requests that wait for a thread or for a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from gatewave.service.errors import Overloaded
from gatewave.service.observability import metrics


class RequestQueue:
    """Limit on waiting requests, shared by their owners.

    When the queue is full, the owner with the most requests in it loses its latest one. The order
    in which requests leave is not decided here: `WorkerPool` serves the owners in rotation.

    Attributes:
        limit: The greatest number of waiting requests.
        length: The number of waiting requests.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.length = 0
        self._slots: dict[object, dict[QueueSlot, None]] = {}

    def reserve(self, owner: object = None) -> QueueSlot:
        """Return a slot for one request of ``owner``.

        Raises:
            Overloaded: The queue is full.
        """
        if self.length >= self.limit and not self._evict_for(owner):
            raise self._full()
        return QueueSlot(self, owner)

    def admit(self) -> QueueSlot:
        """Return a slot for a request that was admitted before: the limit does not apply."""
        return QueueSlot(self, None)

    def add(self, slot: QueueSlot, owner: object) -> None:
        """Count a slot; called by the slot."""
        self.length += 1
        self._slots.setdefault(owner, {})[slot] = None
        metrics.QUEUE_DEPTH.inc()

    def remove(self, slot: QueueSlot, owner: object) -> None:
        """Count a slot no longer; called by the slot."""
        self.length -= 1
        del self._slots[owner][slot]
        # Empty groups are removed, so that replaced models are freed.
        if not self._slots[owner]:
            del self._slots[owner]
        metrics.QUEUE_DEPTH.dec()

    def _evict_for(self, owner: object) -> bool:
        """Evict the latest request of the owner with the most, if that has more than ``owner``.

        The new request counts for ``owner``: otherwise two owners whose numbers differ by one would
        evict each other's requests in turn.
        """
        largest = max(self._slots.values(), key=len, default={})
        if len(largest) <= len(self._slots.get(owner, ())) + 1:
            return False
        for slot in reversed(largest):
            if slot.evict is not None:
                slot.evict(self._full())
                slot.leave()
                return True
        return False

    def _full(self) -> Overloaded:
        return Overloaded("queue", f"{self.limit} requests are waiting")


class QueueSlot:
    """Slot of a request in the queue; it is released when its block ends, or earlier.

    Attributes:
        evict: Tells the request that it has lost the slot; None means that it cannot lose it.
    """

    __slots__ = ("_owner", "_queue", "evict")

    def __init__(self, queue: RequestQueue, owner: object) -> None:
        self.evict: Callable[[Overloaded], None] | None = None
        self._queue: RequestQueue | None = queue
        self._owner = owner
        queue.add(self, owner)

    def leave(self) -> None:
        """Release the slot; further calls have no effect."""
        if self._queue is not None:
            self._queue.remove(self, self._owner)
            self._queue = self._owner = self.evict = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
