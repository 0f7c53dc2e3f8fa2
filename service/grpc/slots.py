"""Bounded slots for open calls, shared among callers, with eviction of idle calls.

A call holds a slot from its admission to its end. It is idle while the server waits for its caller:
for a message, or for the caller to read an answer. An idle call can be evicted: its slot goes to a
waiting call, and the evicted call ends. A call that the server works on keeps its slot.

Without eviction, calls that send no message hold slots until their timeout. 900 silent streams of
one caller once blocked inference and health checks of all callers (ADR 24).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatewave.service.errors import Overloaded
from gatewave.service.security.clients import client_of_call

EVICTION_DELAY = 1.0
"""Default idle time in seconds after which a call can be evicted. A small message comes in one
packet with its call. A caller that is silent for longer is slow, or sends no message."""

REVIEW_INTERVAL = 0.05
"""Seconds between two searches for calls to evict, while calls wait.

A search looks at all slots. When each of 200 calls that came together searched, the burst took
twice as long."""


@dataclass(frozen=True, slots=True)
class EvictionDelays:
    """Idle times in seconds after which a call can be evicted, if other calls wait for a slot.

    Attributes:
        above_share: For a call whose caller has more than its share of the slots.
        within_share: For a call whose caller has no more than its share.
        same_connection: For a call on the connection of the call that waits.
    """

    above_share: float = EVICTION_DELAY
    within_share: float = EVICTION_DELAY
    same_connection: float = EVICTION_DELAY


@dataclass(eq=False, slots=True)
class Slot:
    """Slot of one call, or its position in the queue for a slot.

    Attributes:
        connection: The caller's connection, as gRPC names it: ``ipv4:10.0.0.7:50412``.
        address: The caller's address; the /64 network of an IPv6 address, as for other limits.
        idle_since: Start of the current idle time, on the clock of the event loop.
        idle_timeout: Timeout of the current idle time; None while the server works on the call.
        is_evicted: Whether the slot was taken from the call.
        decision: Result of the wait in the queue: True if the call got a slot, False if rejected.
    """

    connection: str
    address: str | bytes = field(init=False)
    idle_since: float = 0.0
    idle_timeout: asyncio.Timeout | None = None
    is_evicted: bool = False
    decision: asyncio.Future[bool] | None = None

    def __post_init__(self) -> None:
        self.address = client_of_call(self.connection, None)


class Shares:
    """Number of slots of each address and of each connection."""

    def __init__(self) -> None:
        self._counts: dict[str | bytes, int] = {}

    def add(self, slot: Slot, count: int = 1) -> None:
        """Count ``slot`` for its caller; -1 removes it."""
        for caller in (slot.address, slot.connection):
            total = self._counts.get(caller, 0) + count
            if total:
                self._counts[caller] = total
            else:
                del self._counts[caller]

    def copy(self) -> Shares:
        """Return an independent copy."""
        shares = Shares()
        shares._counts = self._counts.copy()
        return shares

    def of(self, slot: Slot) -> tuple[int, int]:
        """Return the numbers of slots of the address and the connection of ``slot``."""
        return self._counts.get(slot.address, 0), self._counts.get(slot.connection, 0)


class SlotPool:
    """Bounded number of slots, shared among callers: one caller cannot exclude the others.

    A free slot goes to the waiting caller that has the fewest slots. While calls wait, idle calls
    of the callers with the most slots are evicted, the longest idle first. Callers are compared by
    address, then by connection: one caller may open many connections, and many callers may come
    through one proxy.

    Attributes:
        size: The number of slots.
        queue_size: The number of calls that may wait for a slot.
        idle_timeout: Longest idle time in seconds, also if no other call waits.
        reason: The reason of `Overloaded` if no slot is free.
        delays: The idle times after which calls can be evicted.
    """

    def __init__(
        self,
        size: int,
        queue_size: int,
        idle_timeout: float,
        *,
        reason: str = "calls",
        delays: EvictionDelays | None = None,
    ) -> None:
        self.size = size
        self.queue_size = queue_size
        self.idle_timeout = idle_timeout
        self.reason = reason
        self.delays = EvictionDelays() if delays is None else delays
        self._held: dict[Slot, None] = {}  # in the order in which they were granted
        # By connection, so that a connection with many waiting calls is one candidate, not many.
        self._queue: dict[str, dict[Slot, None]] = {}
        self._queued = 0
        self._held_shares = Shares()
        self._asked_shares = Shares()  # of the calls that hold a slot or wait for one
        self._next_review: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return the number of slots that are held."""
        return len(self._held)

    @property
    def max_calls(self) -> int:
        """Return the number of calls that can hold slots or wait for them."""
        return self.size + self.queue_size

    @asynccontextmanager
    async def idle_slot(self, connection: str) -> AsyncIterator[None]:
        """Hold a slot for a block that waits for the caller all the time.

        Raises:
            Overloaded: The queue is full.
            TimeoutError: The idle timeout has passed, or the call was evicted.
        """
        async with self.slot(connection) as slot, self.idle(slot):
            yield

    @asynccontextmanager
    async def slot(
        self, connection: str, queue_timeout: float | None = None
    ) -> AsyncIterator[Slot]:
        """Hold a slot for a block. Parts of the block that wait for the caller use `idle`.

        Args:
            connection: The caller's connection, as gRPC names it.
            queue_timeout: Longest wait for a slot in seconds.

        Raises:
            Overloaded: The queue is full, or no slot became free in time.
        """
        slot = Slot(connection)
        await self._acquire(slot, queue_timeout)
        try:
            yield slot
        finally:
            self._release(slot)

    @asynccontextmanager
    async def idle(self, slot: Slot) -> AsyncIterator[None]:
        """Mark a block in which the call of ``slot`` waits for its caller.

        Raises:
            TimeoutError: The idle timeout has passed, or the call was evicted: then ``slot`` is
                marked as evicted.
        """
        async with asyncio.timeout(self.idle_timeout) as timeout:
            slot.idle_timeout = timeout
            slot.idle_since = asyncio.get_running_loop().time()
            if self._queue:
                self._review_soon()
            try:
                yield
            finally:
                slot.idle_timeout = None

    async def _acquire(self, slot: Slot, queue_timeout: float | None) -> None:
        if len(self._held) < self.size and not self._queue:
            self._hold(slot)
            return
        if self._queued >= self.queue_size:
            self._displace_for(slot)
        self._enqueue(slot)
        slot.decision = asyncio.get_running_loop().create_future()
        self._review_soon()
        is_granted = False
        try:
            async with asyncio.timeout(queue_timeout):
                is_granted = await slot.decision
        except TimeoutError:
            pass
        finally:
            # Also when the call is cancelled while it waits.
            if not is_granted:
                self._withdraw(slot)
        if not is_granted:
            raise self._overloaded()

    def _withdraw(self, slot: Slot) -> None:
        """Remove a call that no longer waits.

        The slot may have been granted in the same iteration of the event loop in which the wait
        was cancelled or timed out. It is released then; otherwise it would be lost.
        """
        if slot in self._queue.get(slot.connection, ()):
            self._dequeue(slot)
        if slot in self._held:
            self._release(slot)

    def _enqueue(self, slot: Slot) -> None:
        self._queue.setdefault(slot.connection, {})[slot] = None
        self._queued += 1
        self._asked_shares.add(slot)

    def _dequeue(self, slot: Slot) -> None:
        same_connection = self._queue[slot.connection]
        del same_connection[slot]
        if not same_connection:
            del self._queue[slot.connection]
        self._queued -= 1
        self._asked_shares.add(slot, -1)

    def _hold(self, slot: Slot) -> None:
        self._held[slot] = None
        self._held_shares.add(slot)
        self._asked_shares.add(slot)

    def _release(self, slot: Slot) -> None:
        del self._held[slot]
        self._held_shares.add(slot, -1)
        self._asked_shares.add(slot, -1)
        self._grant_free_slots()

    def _displace_for(self, newcomer: Slot) -> None:
        """Reject a waiting call, to let a caller with fewer calls join the full queue.

        Raises:
            Overloaded: No caller has more calls than the caller of ``newcomer``.
        """
        shares = self._asked_shares.copy()
        shares.add(newcomer)
        lasts = [next(reversed(same_connection)) for same_connection in self._queue.values()]
        last = max(lasts, key=shares.of, default=newcomer)
        if last.decision is None or shares.of(last) <= shares.of(newcomer):
            raise self._overloaded()
        self._dequeue(last)
        # The future is done if the call was cancelled and its task has not run since.
        if not last.decision.done():
            last.decision.set_result(False)

    def _grant_free_slots(self) -> None:
        """Give free slots to waiting calls, first to the callers with the fewest slots."""
        while self._queue and len(self._held) < self.size:
            slot = self._next_in_queue()
            self._dequeue(slot)
            # The connection moves to the end of the queue, so that callers with equally few slots
            # take turns. Otherwise the connection at the front got every free slot: two silent
            # connections kept a third waiting for minutes.
            if same_connection := self._queue.pop(slot.connection, None):
                self._queue[slot.connection] = same_connection
            self._hold(slot)
            if slot.decision is not None and not slot.decision.done():
                slot.decision.set_result(True)

    def _next_in_queue(self) -> Slot:
        """Return the waiting call that gets the next slot."""
        firsts = [next(iter(same_connection)) for same_connection in self._queue.values()]
        return min(firsts, key=self._held_shares.of)

    def _review_soon(self) -> None:
        """Search for calls to evict, now or within `REVIEW_INTERVAL` of the last search."""
        if self._next_review is None:
            self._review()

    def _review(self) -> None:
        """Evict as many calls as wait for a slot, and schedule the next search while calls wait."""
        loop = asyncio.get_running_loop()
        self._next_review = loop.call_later(REVIEW_INTERVAL, self._review) if self._queue else None
        now = loop.time()
        # An evicted call holds its slot until its task has run. Its caller is treated as if the
        # slot was free, so that one search does not take too many slots of one caller.
        shares = self._held_shares.copy()
        evicted = [slot for slot in self._held if slot.is_evicted]
        for slot in evicted:
            shares.add(slot, -1)
        for _ in range(self._queued - len(evicted)):
            ripe = [slot for slot, when in self._evictable(shares).items() if when <= now]
            if not ripe:
                return
            slot = max(ripe, key=lambda slot: (*shares.of(slot), -slot.idle_since))
            shares.add(slot, -1)
            _evict(slot, now)

    def _evictable(self, shares: Shares) -> dict[Slot, float]:
        """Return the slots that the next call in the queue may get, and the earliest time of each.

        A caller with fewer slots than the waiting caller loses none to it.
        """
        waiting = self._next_in_queue()
        fair = self._fair_shares()
        evictable = {}
        for slot in self._held:
            has = shares.of(slot)
            if slot.idle_timeout is None or slot.is_evicted or has < shares.of(waiting):
                continue
            if slot.connection == waiting.connection:
                delay = self.delays.same_connection
            elif has[0] > fair[0] or has[1] > fair[1]:
                delay = self.delays.above_share
            else:
                delay = self.delays.within_share
            evictable[slot] = slot.idle_since + delay
        return evictable

    def _fair_shares(self) -> tuple[int, int]:
        """Return the share of each address and of each connection, at least one slot."""
        callers = [*self._held, *(next(iter(slots)) for slots in self._queue.values())]
        return (
            max(1, self.size // len({slot.address for slot in callers})),
            max(1, self.size // len({slot.connection for slot in callers})),
        )

    def _overloaded(self) -> Overloaded:
        detail = {
            "memory": f"{self.size} messages are being received",
            "streams": f"{self.size} streams are open",
        }
        return Overloaded(
            self.reason, detail.get(self.reason, f"{self.size} calls of this kind are open")
        )


def _evict(slot: Slot, now: float) -> None:
    """End the idle time of a call with TimeoutError, as if its timeout had passed."""
    slot.is_evicted = True
    if slot.idle_timeout is not None and not slot.idle_timeout.expired():
        slot.idle_timeout.reschedule(now)
