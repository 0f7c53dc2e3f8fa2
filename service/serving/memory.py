"""Budget of bytes that all requests under way may hold together."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from gatewave.service.errors import Overloaded, ServiceError
from gatewave.service.observability import metrics

GRAIN = 1 << 16
"""So many bytes up or down are worth telling: telling costs as much as decoding a small request."""

GRACE_SECONDS = 1.0
"""Age of a body, in seconds, before its pace is judged: TCP starts slowly."""

PACE_SECONDS = 1.0
"""Time constant in seconds of the pace, an exponentially weighted mean: after this time without a
byte it has fallen to a third."""

SCAN_SECONDS = 0.02
"""Seconds between two searches for slow bodies that found too few: each search reads all of
them."""

READER = "gatewave.reader"
"""Key of the scope that holds the connection, as a `Reader`."""

Client = str | bytes


class Budget:
    """Limit on the bytes in use at a time; used from the event loop only.

    Args:
        most: The limit in bytes.
        share: Part of the limit that several requests of one client may hold together. A single
            request may hold more, so the share rejects no request for its size alone.
    """

    def __init__(self, most: int, share: float = 1.0) -> None:
        self.most = most
        self.client_most = int(most * share)
        self.used = 0
        self.yielding: set[Yielding] = set()
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
        """Return an empty permit for a request of ``client``; None has no share."""
        return Permit(self, client)

    def has_room(self, permit: Permit, count: int) -> bool:
        """Return whether ``permit`` may hold ``count`` bytes more now."""
        return self.used + count <= self.most and self._over_share(permit, count) <= 0

    def make_room(self, permit: Permit, count: int) -> None:
        """End slow bodies and answers, until ``permit`` may hold ``count`` bytes more.

        Raises:
            Overloaded: Ending all of them would not suffice; then all of them stay.
        """
        over = self._over_share(permit, count)
        if over > 0 and not self._give_up_slow(permit, over, permit.client):
            detail = f"the requests of one client may hold {self.client_most} bytes together"
            raise Overloaded("client_memory", detail)
        over = self.used + count - self.most
        if over > 0 and not self._give_up_slow(permit, over, None):
            raise Overloaded("memory", f"{self.used} of {self.most} bytes are in use")

    def _over_share(self, permit: Permit, count: int) -> int:
        """Return the bytes by which ``permit`` would exceed its client's share."""
        if permit.client is None:
            return 0
        held = self._held_by.get(permit.client, 0)
        return 0 if held == permit.held else held + count - self.client_most

    def _give_up_slow(self, permit: Permit, missing: int, client: Client | None) -> bool:
        """End slow transfers of ``client``, or of all clients, largest first, for so many bytes."""
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
            Overloaded: There is not enough free memory now.
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
        """Refuse a request that needs more bytes than the limit, before its body comes.

        Raises:
            Overloaded: It needs more than the limit.
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


class Yielding(ABC):
    """Body or answer that gives up its memory to others, in its block, if it is slow."""

    __slots__ = ("_seconds", "_start", "permit")

    def __init__(self, permit: Permit, seconds: float) -> None:
        self.permit = permit
        self._seconds = seconds
        self._start = time.monotonic()

    @abstractmethod
    def is_slow(self, now: float) -> bool:
        """Return whether it would take longer than allowed, at its pace."""

    @abstractmethod
    def _end(self) -> None:
        """End what is slow."""

    def give_up(self) -> None:
        """Release its memory now, and end it."""
        self.permit.give_back()
        self.permit.budget.yielding.discard(self)
        self._end()

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


class Incoming(Yielding):
    """Body of which a part has come. It gives up its memory to others if it comes slowly.

    Args:
        permit: The permit of the received bytes.
        seconds: Time limit for the whole body.
        end: Called with an error to end the reception.
    """

    __slots__ = ("_came", "_held", "_last", "_pace", "_refuse")

    def __init__(self, permit: Permit, seconds: float, end: Callable[[ServiceError], None]) -> None:
        super().__init__(permit, seconds)
        self._refuse = end
        self._came = self._held = 0
        self._last = self._start
        self._pace = 0.0

    def came(self, count: int) -> None:
        """Note that ``count`` bytes more have come."""
        now = time.monotonic()
        self._pace = self._pace_at(now) + count / PACE_SECONDS
        self._last = now
        self._came += count

    def _pace_at(self, now: float) -> float:
        """Return the recent pace in bytes per second."""
        return self._pace * math.exp((self._last - now) / PACE_SECONDS)

    def hold(self, count: int) -> None:
        """Hold a total of ``count`` bytes for the body.

        Raises:
            Overloaded: There is not enough free memory now.
        """
        if count > self._held:
            self.permit.take(count - self._held)
            self._held = count

    def is_slow(self, now: float) -> bool:
        """Return whether the received bytes would take longer than allowed, at the recent pace."""
        is_old = now - self._start >= GRACE_SECONDS
        return is_old and self._came > self._pace_at(now) * self._seconds

    def _end(self) -> None:
        """Have the request answered with 503."""
        detail = "memory was short, and the body came too slowly"
        self._refuse(Overloaded("memory", detail))


class Reader(Protocol):
    """Connection whose client reads an answer."""

    def untaken(self) -> int:
        """Return how many bytes of its answers the client has not taken."""

    def cut_off(self) -> None:
        """End the connection, and discard the bytes that the client has not taken."""


class Outgoing(Yielding):
    """Answer that a client reads. It gives up its memory to others if it is read slowly.

    Args:
        permit: The permit of the answer's bytes.
        length: The length of the answer in bytes.
        seconds: Time limit of the whole answer if memory is short.
        reader: The connection.
    """

    __slots__ = ("_length", "_reader", "sent")

    def __init__(self, permit: Permit, length: int, seconds: float, reader: Reader) -> None:
        super().__init__(permit, seconds)
        self.sent = 0
        self._length = length
        self._reader = reader

    def is_slow(self, now: float) -> bool:
        """Return whether the whole answer would take longer than allowed, at its average pace."""
        age = now - self._start
        if age < GRACE_SECONDS:
            return False
        taken = self.sent - self._reader.untaken()
        return taken * self._seconds < self._length * age

    def _end(self) -> None:
        """Disconnect the client, because its answer has begun."""
        self._reader.cut_off()
