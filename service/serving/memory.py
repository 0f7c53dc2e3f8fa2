"""Budget of the bytes that all requests in progress may hold together.

The limit counts the bytes of bodies, decoded tensors, results and answers before they are
allocated. Without it, the system's out-of-memory killer would end an overloaded service.
A request that comes or is read slowly holds its bytes for long. When memory is short, slow
transfers are ended, the largest first; a client that sends at full speed never loses its request.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, Self

from gatewave.service.errors import Overloaded, ServiceError
from gatewave.service.observability import metrics

REPORT_STEP = 1 << 16
"""Change in bytes from which on the metric is updated. An update takes as long as decoding a small
request."""

GRACE_SECONDS = 1.0
"""Age in seconds from which on the pace of a transfer counts: TCP starts slowly."""

PACE_SECONDS = 1.0
"""Time constant, in seconds, of the exponentially weighted mean of the pace: in this time without a
byte, the mean falls to 1/e."""

SCAN_SECONDS = 0.02
"""Seconds without a search for slow transfers, after one that found too few: each search reads all
transfers, and under overload every new request would cause one."""

READER = "gatewave.reader"
"""Key of the scope that holds the connection, as an `AnswerReader`."""

Client = str | bytes


class Budget:
    """Limit on the bytes in use at a time; used from one event loop only.

    Args:
        limit: The limit in bytes.
        share: Part of the limit that several requests of one client may hold together. A single
            request may hold more: the share alone rejects no request for its size.
    """

    def __init__(self, limit: int, share: float = 1.0) -> None:
        self.limit = limit
        self.client_limit = int(limit * share)
        self.used = 0
        self.transfers: set[Transfer] = set()
        self._reported = 0
        self._held_by: dict[Client, int] = {}
        self._next_scan = 0.0

    def change(self, count: int, client: Client | None = None) -> None:
        """Add ``count`` bytes, or remove them if ``count`` is negative."""
        self.used += count
        if client is not None:
            held = self._held_by.get(client, 0) + count
            if held:
                self._held_by[client] = held
            else:
                # Clients without bytes are removed, because their number has no limit.
                self._held_by.pop(client, None)
        if not -REPORT_STEP < self.used - self._reported < REPORT_STEP:
            self._reported = self.used
            metrics.RESERVED_BYTES.set(self.used)

    def permit(self, client: Client | None = None) -> Permit:
        """Return an empty permit for a request of ``client``; None is a client without a limit."""
        return Permit(self, client)

    def has_room(self, permit: Permit, count: int) -> bool:
        """Return True if ``permit`` may hold ``count`` bytes more now."""
        return self.used + count <= self.limit and self._over_share(permit, count) <= 0

    def make_room(self, permit: Permit, count: int) -> None:
        """End slow transfers, until ``permit`` may hold ``count`` bytes more.

        Raises:
            Overloaded: Ending all of them would not suffice; then all of them stay.
        """
        # First the client's own transfers: a client that exceeds its share ends no other's.
        over = self._over_share(permit, count)
        if over > 0 and not self._evict_slow(permit, over, permit.client):
            detail = f"the requests of one client may hold {self.client_limit} bytes together"
            raise Overloaded("client_memory", detail)
        over = self.used + count - self.limit
        if over > 0 and not self._evict_slow(permit, over, None):
            raise Overloaded("memory", f"{self.used} of {self.limit} bytes are in use")

    def _over_share(self, permit: Permit, count: int) -> int:
        """Return the bytes by which ``permit`` would exceed its client's share."""
        if permit.client is None:
            return 0
        held = self._held_by.get(permit.client, 0)
        # The client's only request has no limit but the budget's.
        return 0 if held == permit.held else held + count - self.client_limit

    def _evict_slow(self, permit: Permit, missing: int, client: Client | None) -> bool:
        """End slow transfers of ``client``, or of all clients, that hold ``missing`` bytes.

        Returns:
            True if they held enough; otherwise, all of them continue.
        """
        now = time.monotonic()
        if now < self._next_scan:
            return False
        slow = [
            transfer
            for transfer in self.transfers
            if transfer.permit is not permit
            and client in (None, transfer.permit.client)
            and transfer.is_slow(now)
        ]
        if sum(transfer.permit.held for transfer in slow) < missing:
            self._next_scan = now + SCAN_SECONDS
            return False
        # The largest first, so that as few requests as possible fail.
        slow.sort(key=lambda transfer: transfer.permit.held)
        while missing > 0:
            transfer = slow.pop()
            missing -= transfer.permit.held
            transfer.evict()
        return True


class Permit:
    """Bytes that one request holds; they are released when its block ends."""

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
        self.take_unchecked(count)

    def take_unchecked(self, count: int) -> None:
        """Hold ``count`` bytes more, even above the limit, because they are already in use."""
        self.budget.change(count, self.client)
        self.held += count

    def give_back(self) -> None:
        """Release all bytes; further calls have no effect."""
        self.budget.change(-self.held, self.client)
        self.held = 0

    def check_possible(self, count: int) -> None:
        """Refuse a request that needs more bytes than the limit, before its body is read.

        Raises:
            Overloaded: The request needs more than the limit.
        """
        if count > self.budget.limit:
            detail = f"the request needs {count} bytes, and {self.budget.limit} may be in use"
            raise Overloaded("memory", detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


class Transfer(ABC):
    """Body or answer in transfer. If it is slow, it can be ended in favour of other requests.

    It is registered with the budget while its block lasts.
    """

    __slots__ = ("_seconds", "_start", "permit")

    def __init__(self, permit: Permit, seconds: float) -> None:
        self.permit = permit
        self._seconds = seconds
        self._start = time.monotonic()

    @abstractmethod
    def is_slow(self, now: float) -> bool:
        """Return True if the transfer would take longer than allowed, at its pace."""

    @abstractmethod
    def _end(self) -> None:
        """End the transfer."""

    def evict(self) -> None:
        """Release the memory, and end the transfer."""
        # Now, not when the request's task next runs: the caller needs the bytes at once.
        self.permit.give_back()
        self.permit.budget.transfers.discard(self)
        self._end()

    def __enter__(self) -> Self:
        self.permit.budget.transfers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.permit.budget.transfers.discard(self)


class Incoming(Transfer):
    """Body that is being received.

    Args:
        permit: The permit of the received bytes.
        seconds: Time limit for the whole body.
        end: Called with an error to end the reception.
    """

    __slots__ = ("_held", "_last", "_pace", "_received", "_refuse")

    def __init__(self, permit: Permit, seconds: float, end: Callable[[ServiceError], None]) -> None:
        super().__init__(permit, seconds)
        self._refuse = end
        self._received = self._held = 0
        self._last = self._start
        self._pace = 0.0

    def received(self, count: int) -> None:
        """Record that ``count`` more bytes have come."""
        now = time.monotonic()
        # The mean over all past times t of the bytes, weighted by exp((t - now) / PACE_SECONDS),
        # takes one multiplication for each piece, and no memory.
        self._pace = self._pace_at(now) + count / PACE_SECONDS
        self._last = now
        self._received += count

    def _pace_at(self, now: float) -> float:
        """Return the recent pace in bytes per second."""
        return self._pace * math.exp((self._last - now) / PACE_SECONDS)

    def hold(self, count: int) -> None:
        """Hold a total of ``count`` bytes for the body, if it holds fewer.

        Raises:
            Overloaded: There is not enough free memory now.
        """
        if count > self._held:
            self.permit.take(count - self._held)
            self._held = count

    def is_slow(self, now: float) -> bool:
        """Return True if the received bytes would take longer than allowed, at the recent pace.

        The length of the whole body is not used: it may be unknown, and a client may announce any.
        """
        is_old = now - self._start >= GRACE_SECONDS
        return is_old and self._received > self._pace_at(now) * self._seconds

    def _end(self) -> None:
        """Have the request answered with status 503."""
        detail = "memory was short, and the body came too slowly"
        self._refuse(Overloaded("memory", detail))


class AnswerReader(Protocol):
    """Connection whose client reads an answer."""

    def untaken(self) -> int:
        """Return the number of bytes of its answers that the client has not taken."""

    def cut_off(self) -> None:
        """End the connection, and discard the bytes that the client has not taken."""


class Outgoing(Transfer):
    """Answer that a client reads.

    Args:
        permit: The permit of the answer's bytes.
        length: The length of the answer in bytes.
        seconds: Time limit for the whole answer if memory is short.
        reader: The connection of the client.

    Attributes:
        sent: Bytes that were given to the connection, which may still hold some of them.
    """

    __slots__ = ("_length", "_reader", "sent")

    def __init__(self, permit: Permit, length: int, seconds: float, reader: AnswerReader) -> None:
        super().__init__(permit, seconds)
        self.sent = 0
        self._length = length
        self._reader = reader

    def is_slow(self, now: float) -> bool:
        """Return True if the whole answer would take longer than allowed, at its average pace."""
        age = now - self._start
        if age < GRACE_SECONDS:
            return False
        taken = self.sent - self._reader.untaken()
        return taken * self._seconds < self._length * age

    def _end(self) -> None:
        """Disconnect the client, because its answer has begun."""
        self._reader.cut_off()
