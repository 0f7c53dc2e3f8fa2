"""Places that calls hold for a time, shared among the callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gatewave.service.errors import Overloaded
from gatewave.service.security.clients import client_of_call

MOMENT = 1.0
"""Seconds for which a place is held at least; a small message comes with its call."""

REVIEW_SECONDS = 0.05
"""Seconds between two searches for places that may be taken back, while calls wait."""


@dataclass(eq=False, slots=True)
class Place:
    """Place of one call, or its wait for a place.

    Attributes:
        connection: The caller's connection, as gRPC names it: ``ipv4:10.0.0.7:50412``.
        address: The caller's address; the network of an IPv6 address, as for the other limits.
        since: The start of its wait for the caller, in the event loop's seconds.
        time: Limit of that wait; None while the call is computed, when its place cannot be taken.
        is_wanted: Whether the place was taken from the call.
        turn: Set when the call has a place, or is refused.
    """

    connection: str
    address: str | bytes = field(init=False)
    since: float = 0.0
    time: asyncio.Timeout | None = None
    is_wanted: bool = False
    turn: asyncio.Future[bool] | None = None

    def __post_init__(self) -> None:
        self.address = client_of_call(self.connection, None)


class Shares:
    """Number of places of each address and each connection."""

    def __init__(self) -> None:
        self._of: dict[str | bytes, int] = {}

    def add(self, place: Place, count: int = 1) -> None:
        for caller in (place.address, place.connection):
            has = self._of.get(caller, 0) + count
            if has:
                self._of[caller] = has
            else:
                del self._of[caller]

    def copy(self) -> Shares:
        shares = Shares()
        shares._of = self._of.copy()
        return shares

    def of(self, place: Place) -> tuple[int, int]:
        """Return the numbers of places of the address and the connection of ``place``."""
        return self._of.get(place.address, 0), self._of.get(place.connection, 0)


class Desk:
    """Bounded number of places, shared so that one caller cannot exclude others.

    A place goes to the caller that has the fewest. While calls wait, the places of callers that
    have the most are taken back, those first that have waited longest for their callers. Callers
    are compared by address and then by connection: a caller may open many connections, and many
    callers may come through one proxy.

    Attributes:
        places: The number of places.
        longest_line: The number of calls that may wait for a place.
        seconds: Time limit of a wait for the caller, also if no other call needs the place.
        name: The reason of `Overloaded` when there is no place.
        moment: Seconds that a call may wait if its caller has more than its share of the places.
        patience: The same, if a caller with at most as many places needs the place.
        own_patience: The same, if its own connection needs the place.
    """

    def __init__(
        self,
        places: int,
        longest_line: int,
        seconds: float,
        *,
        name: str = "calls",
        moment: float = MOMENT,
        patience: float = MOMENT,
        own_patience: float = MOMENT,
    ) -> None:
        self.places = places
        self.longest_line = longest_line
        self.seconds = seconds
        self.name = name
        self.moment = moment
        self.patience = patience
        self.own_patience = own_patience
        self._held: dict[Place, None] = {}
        self._line: dict[str, dict[Place, None]] = {}  # by connection
        self._in_line = 0
        self._shares = Shares()  # of the places that are held
        self._asked = Shares()  # of these and of those that are waited for
        self._next_review: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._held)

    @property
    def most(self) -> int:
        """Return the number of calls that can hold or await places."""
        return self.places + self.longest_line

    @asynccontextmanager
    async def place(self, connection: str) -> AsyncIterator[None]:
        """Hold a place in a block that waits for the caller, with a time limit.

        Raises:
            Overloaded: The queue is full.
            TimeoutError: The time limit has passed, or the place was taken.
        """
        async with self.seat(connection) as place, self.waiting(place):
            yield

    @asynccontextmanager
    async def seat(self, connection: str, wait: float | None = None) -> AsyncIterator[Place]:
        """Hold a place in a block that waits for its caller at times, each time within `waiting`.

        Args:
            connection: The caller's.
            wait: Seconds to wait for a place at most.

        Raises:
            Overloaded: The queue is full, or no place became free.
        """
        place = Place(connection)
        await self._turn(place, wait)
        try:
            yield place
        finally:
            self._release(place)

    @asynccontextmanager
    async def waiting(self, place: Place) -> AsyncIterator[None]:
        """Mark a block in which the call of ``place`` waits for its caller.

        Raises:
            TimeoutError: The time is over, or the place is taken back: then it ``is_wanted``.
        """
        async with asyncio.timeout(self.seconds) as time:
            place.time = time
            place.since = asyncio.get_running_loop().time()
            if self._line:
                self._review_soon()
            try:
                yield
            finally:
                place.time = None

    async def _turn(self, place: Place, wait: float | None) -> None:
        if len(self._held) < self.places and not self._line:
            self._hold(place)
            return
        if self._in_line >= self.longest_line:
            self._shorten_line(place)
        self._join(place)
        place.turn = asyncio.get_running_loop().create_future()
        self._review_soon()
        is_given = False
        try:
            async with asyncio.timeout(wait):
                is_given = await place.turn
        except TimeoutError:
            pass
        finally:
            if not is_given:
                self._leave(place)
        if not is_given:
            raise self._full()

    def _leave(self, place: Place) -> None:
        """Remove a call that no longer waits; a place that it was just given goes to another."""
        if place in self._line.get(place.connection, ()):
            self._quit(place)
        if place in self._held:
            self._release(place)

    def _join(self, place: Place) -> None:
        self._line.setdefault(place.connection, {})[place] = None
        self._in_line += 1
        self._asked.add(place)

    def _quit(self, place: Place) -> None:
        of_connection = self._line[place.connection]
        del of_connection[place]
        if not of_connection:
            del self._line[place.connection]
        self._in_line -= 1
        self._asked.add(place, -1)

    def _hold(self, place: Place) -> None:
        self._held[place] = None
        self._shares.add(place)
        self._asked.add(place)

    def _release(self, place: Place) -> None:
        del self._held[place]
        self._shares.add(place, -1)
        self._asked.add(place, -1)
        self._share_out()

    def _shorten_line(self, newcomer: Place) -> None:
        """Refuse a waiting call in favour of a caller with fewer calls.

        Raises:
            Overloaded: No caller has more calls than that of ``newcomer``.
        """
        shares = self._asked.copy()
        shares.add(newcomer)
        lasts = [next(reversed(of_connection)) for of_connection in self._line.values()]
        last = max(lasts, key=shares.of, default=newcomer)
        if last.turn is None or shares.of(last) <= shares.of(newcomer):
            raise self._full()
        self._quit(last)
        if not last.turn.done():  # It may have been cancelled; its task notices that later.
            last.turn.set_result(False)

    def _share_out(self) -> None:
        """Give free places to waiting calls, first those of callers with the fewest places."""
        while self._line and len(self._held) < self.places:
            place = self._following()
            self._quit(place)
            # Callers with equally few places take turns: the calls of the first would all come
            # before the others otherwise, one after the other.
            if of_connection := self._line.pop(place.connection, None):
                self._line[place.connection] = of_connection
            self._hold(place)
            if place.turn is not None and not place.turn.done():
                place.turn.set_result(True)

    def _following(self) -> Place:
        """Return the call in the line that is the next to get a place."""
        firsts = [next(iter(of_connection)) for of_connection in self._line.values()]
        return min(firsts, key=self._shares.of)

    def _review_soon(self) -> None:
        """Look for places to take back: now, or a little later where that was just done.

        A look costs as much as a call, so that each of many calls that come together has none.
        """
        if self._next_review is None:
            self._review()

    def _review(self) -> None:
        """Take back as many places as calls wait for, and look again while calls wait."""
        loop = asyncio.get_running_loop()
        self._next_review = loop.call_later(REVIEW_SECONDS, self._review) if self._line else None
        now = loop.time()
        shares = self._shares.copy()
        for place in self._held:
            if place.is_wanted:
                shares.add(place, -1)
        taken = sum(place.is_wanted for place in self._held)
        while taken < self._in_line:
            due = self._due(shares)
            ripe = [place for place, when in due.items() if when <= now]
            if not ripe:
                return
            self._take(max(ripe, key=lambda place: (*shares.of(place), -place.since)), now, shares)
            taken += 1

    def _take(self, place: Place, now: float, shares: Shares) -> None:
        place.is_wanted = True
        shares.add(place, -1)
        if place.time is not None and not place.time.expired():
            place.time.reschedule(now)

    def _due(self, shares: Shares) -> dict[Place, float]:
        """Return the places that the next in the line may get, and from when on."""
        following = self._following()
        callers = [*self._held, *(next(iter(each)) for each in self._line.values())]
        fair = (
            max(1, self.places // len({place.address for place in callers})),
            max(1, self.places // len({place.connection for place in callers})),
        )
        due = {}
        for place in self._held:
            if place.time is None or place.is_wanted or shares.of(place) < shares.of(following):
                continue
            has = shares.of(place)
            if place.connection == following.connection:
                patience = self.own_patience
            elif has[0] > fair[0] or has[1] > fair[1]:
                patience = self.moment
            else:
                patience = self.patience
            due[place] = place.since + patience
        return due

    def _full(self) -> Overloaded:
        detail = {
            "memory": f"{self.places} messages are being received",
            "streams": f"{self.places} streams are open",
        }
        open_calls = f"{self.places} calls like this one are open"
        return Overloaded(self.name, detail.get(self.name, open_calls))
