"""Bytes that the requests under way may hold together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from service import metrics
from service.errors import Overloaded, ServiceError

GRAIN = 1 << 16
"""So many bytes up or down are worth telling: telling costs as much as decoding a small request."""

GRACE_SECONDS = 1.0
"""Age of a body, in seconds, before its pace is judged: TCP starts slowly."""

PACE_SECONDS = 1.0
"""Time constant of the pace, an exponentially weighted mean: after so many seconds without a byte
it is down to a third."""

SCAN_SECONDS = 0.02
"""Pause between two searches for slow bodies that found too few: each looks at all of them."""

READER = "gatewave.reader"
"""Key of the scope that holds the connection, as a `Reader`."""

Client = str | bytes


class Budget:
    """Bytes that may be in use at once; used from the event loop only.

    Args:
        most: How many bytes.
        share: Part of them that several requests of one client may hold together. A single request
            may hold more, so that the share refuses no request for its size alone.
    """

    def __init__(self, most: int, share: float = 1.0) -> None:
        self.most = most
        self.client_most = int(most * share)
        self.used = 0
        self.yielding: set[Incoming | Outgoing] = set()
        self._told = 0
        self._held_by: dict[Client, int] = {}
        self._next_scan = 0.0

    def change(self, count: int, client: Client | None = None) -> None:
        """Hold ``count`` bytes more, or fewer."""
        self.used += count
        if client is not None:
            held = self._held_by.get(client, 0) + count
            if held:
                self._held_by[client] = held
            else:
                self._held_by.pop(client, None)
        if not -GRAIN < self.used - self._told < GRAIN:
            self._told = self.used
            metrics.RESERVED_BYTES.set(self.used)

    def permit(self, client: Client | None = None) -> Permit:
        """Nothing yet, to be held by a request of ``client``; None has no share."""
        return Permit(self, client)

    def has_room(self, permit: Permit, count: int) -> bool:
        """Return whether ``permit`` may hold ``count`` bytes more now."""
        return self.used + count <= self.most and self._over_share(permit, count) <= 0

    def make_room(self, permit: Permit, count: int) -> None:
        """Give up bodies and answers that move slowly, until ``permit`` may hold ``count`` more.

        Raises:
            Overloaded: That does not suffice; then all of them stay.
        """
        over = self._over_share(permit, count)
        if over > 0 and not self._give_up_slow(permit, over, permit.client):
            detail = f"the requests of one client may hold {self.client_most} bytes together"
            raise Overloaded("client_memory", detail)
        over = self.used + count - self.most
        if over > 0 and not self._give_up_slow(permit, over, None):
            raise Overloaded("memory", f"{self.used} of {self.most} bytes are in use")

    def _over_share(self, permit: Permit, count: int) -> int:
        """Return by how many bytes ``permit`` would exceed its client's share."""
        if permit.client is None:
            return 0
        held = self._held_by.get(permit.client, 0)
        return 0 if held == permit.held else held + count - self.client_most

    def _give_up_slow(self, permit: Permit, missing: int, client: Client | None) -> bool:
        """Give up slow ones, of ``client`` alone if given, largest first, for so many bytes."""
        now = time.monotonic()
        if now < self._next_scan:
            return False
        slow = [
            body
            for body in self.yielding
            if body.permit is not permit
            and client in (None, body.permit.client)
            and body.is_slow(now)
        ]
        if sum(body.permit.held for body in slow) < missing:
            self._next_scan = now + SCAN_SECONDS
            return False
        slow.sort(key=lambda body: body.permit.held)
        while missing > 0:
            body = slow.pop()
            missing -= body.permit.held
            body.give_up()
        return True


class Permit:
    """The bytes that one request holds; it gives them back when its block ends."""

    __slots__ = ("budget", "client", "held")

    def __init__(self, budget: Budget, client: Client | None = None) -> None:
        self.budget = budget
        self.client = client
        self.held = 0

    def take(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            Overloaded: So much is not free now.
        """
        if not self.budget.has_room(self, count):
            self.budget.make_room(self, count)
        self.owe(count)

    def owe(self, count: int) -> None:
        """Hold ``count`` bytes more, free or not: they are in use already, and others see it."""
        self.budget.change(count, self.client)
        self.held += count

    def give_back(self) -> None:
        """Hold nothing any more."""
        self.budget.change(-self.held, self.client)
        self.held = 0

    def check_possible(self, count: int) -> None:
        """Refuse a request that needs more bytes than there are, before any of them comes.

        Raises:
            Overloaded: It needs more.
        """
        if count > self.budget.most:
            detail = f"the request needs {count} bytes, and {self.budget.most} may be in use"
            raise Overloaded("memory", detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()


class Incoming:
    """A body of which a part has come. It yields its memory to others while it comes slowly.

    Args:
        permit: What holds the memory of what has come.
        seconds: How long the whole body may take.
        end: Ends the receiving with an error.
    """

    __slots__ = ("_came", "_end", "_held", "_last", "_pace", "_seconds", "_start", "permit")

    def __init__(self, permit: Permit, seconds: float, end: Callable[[ServiceError], None]) -> None:
        self.permit = permit
        self._seconds = seconds
        self._end = end
        self._came = self._held = 0
        self._start = self._last = time.monotonic()
        self._pace = 0.0

    def came(self, count: int) -> None:
        """Note that ``count`` bytes more have come."""
        now = time.monotonic()
        self._pace = self._pace_at(now) + count / PACE_SECONDS
        self._last = now
        self._came += count

    def _pace_at(self, now: float) -> float:
        """Return the bytes of late, per second."""
        return self._pace * math.exp((self._last - now) / PACE_SECONDS)

    def hold(self, count: int) -> None:
        """Hold so many bytes in all for the body.

        Raises:
            Overloaded: So much is not free now.
        """
        if count > self._held:
            self.permit.take(count - self._held)
            self._held = count

    def is_slow(self, now: float) -> bool:
        """Return whether what has come would take longer than allowed, at the pace of late."""
        is_old = now - self._start >= GRACE_SECONDS
        return is_old and self._came > self._pace_at(now) * self._seconds

    def give_up(self) -> None:
        """Give back what it holds, now, and have the request answered with 503."""
        self.permit.give_back()
        self.permit.budget.yielding.discard(self)
        detail = "memory was short, and the body came too slowly to keep what it held"
        self._end(Overloaded("memory", detail))

    def __enter__(self) -> Self:
        self.permit.budget.yielding.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.permit.budget.yielding.discard(self)


class Reader(Protocol):
    """A connection whose client takes an answer."""

    def untaken(self) -> int:
        """Return how many bytes of its answers the client has not taken."""

    def cut_off(self) -> None:
        """End the connection, and forget what the client has not taken."""


class Outgoing:
    """An answer that a client takes. It yields its memory to others while it is taken slowly.

    Args:
        permit: What holds the memory of the answer.
        length: How many bytes the answer has.
        seconds: How long the client may take for all of it where memory is short.
        reader: The connection.
    """

    __slots__ = ("_length", "_reader", "_seconds", "_start", "permit", "sent")

    def __init__(self, permit: Permit, length: int, seconds: float, reader: Reader) -> None:
        self.permit = permit
        self.sent = 0
        self._length = length
        self._seconds = seconds
        self._reader = reader
        self._start = time.monotonic()

    def is_slow(self, now: float) -> bool:
        """Return whether all of it would take longer than allowed, at its pace until now."""
        age = now - self._start
        if age < GRACE_SECONDS:
            return False
        taken = self.sent - self._reader.untaken()
        return taken * self._seconds < self._length * age

    def give_up(self) -> None:
        """Give back what it holds, now, and cut the client off: its answer has begun."""
        self.permit.give_back()
        self.permit.budget.yielding.discard(self)
        self._reader.cut_off()

    def __enter__(self) -> Self:
        self.permit.budget.yielding.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.permit.budget.yielding.discard(self)
