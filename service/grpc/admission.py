"""How requests come in: message by message, and never so many at once that memory ends."""

from __future__ import annotations

import asyncio

from gatewave.service.errors import BodyLate, BodyMalformed, BodyTooLong, RequestInvalid
from gatewave.service.grpc.messages import words_in
from gatewave.service.grpc.slots import MOMENT, Desk
from gatewave.service.grpc.streams import Context, Streams
from gatewave.service.quoting import NOTHING
from gatewave.service.serving.memory import Permit
from gatewave.service.settings import Settings

WEIGHT = 32
"""How many bytes a byte comes to that is not raw: an empty message is two bytes, and an object."""

LONGEST_QUESTION = 1 << 16
"""In bytes, of what is no inference: a name, mostly."""
QUESTIONS = 16
"""Number of those that are received at a time from callers with a key, and again from others."""
LONGEST_LINE = 256
"""Number of calls without a key that may wait for one of these places."""
WATCHERS = 64
"""How many may watch the health; clients that lose their place ask again."""
WATCH_SECONDS = 3600.0
"""How long one may."""
REFLECTIONS = 16
"""Number of open streams of gRPC's reflection."""

BRIEF = 0.25
"""Seconds after which a health check or a call of reflection can lose its place to others. Clients
send these messages, of a few bytes, in one packet with the call."""
PATIENCE = 3.0
"""Seconds after which the call of an inference request can lose its place if each caller has at
most its share: a message of 64 MiB takes that long at 180 Mbit/s."""
STREAM_PATIENCE = 5.0
"""Seconds after which an idle stream can lose its place if each caller has at most its share."""


class Intake:
    """Bounded places in which messages are received.

    A message may be as long as a body, and gRPC does not tell its length before it has come. Only
    as many messages are received at a time as fit into memory together; the flow control of HTTP/2
    holds up the others. An open stream has a place of its own. Methods other than inference have
    separate places, and so do methods without a key: calls without a message do not hold up
    inference or other queries.

    Each kind of call has places of its own: health checks are answered however many others wait.

    Attributes:
        places: The number of inference requests that are received at a time, and of open streams.
        messages: Places in which inference requests are received.
        most_words: Limit on the bytes of a message that are not raw contents: reading them holds up
            others, as reading JSON does, and takes many times their memory.
        questions: Places in which the messages of other methods are received.
        public: Places for messages of methods that need no key.
        watchers: Places of health watchers.
        opened: The open streams of inference requests.
        reflections: The open streams of reflection.
    """

    def __init__(self, settings: Settings, ending: asyncio.Future[None]) -> None:
        self.places = max(1, settings.max_memory_bytes // settings.max_body_bytes)
        self.most_words = settings.max_json_bytes
        self.seconds = settings.body_seconds
        self.patience = settings.timeout_seconds
        line = settings.max_queue + self.places
        self.messages = Desk(self.places, line, self.seconds, name="memory", patience=PATIENCE)
        streams = Desk(
            self.places,
            self.places,
            settings.grpc_idle_seconds,
            name="streams",
            moment=min(MOMENT, self.seconds),
            patience=min(STREAM_PATIENCE, self.seconds),
            own_patience=self.seconds,
        )
        self.opened = Streams(streams, ending)
        self.questions = Desk(QUESTIONS, settings.max_queue, self.seconds)
        self.public = _brief(QUESTIONS, LONGEST_LINE, self.seconds, "calls")
        self.watchers = Desk(WATCHERS, WATCHERS, WATCH_SECONDS)
        reflections = _brief(REFLECTIONS, REFLECTIONS, self.seconds, "streams")
        self.reflections = Streams(reflections, ending)

    @property
    def most_calls(self) -> int:
        """How many calls can be here at once."""
        desks = (self.messages, self.questions, self.public, self.watchers)
        return sum(desk.most for desk in (*desks, self.opened.desk, self.reflections.desk))

    async def only(self, context: Context) -> bytes:
        """The message of an inference request.

        Raises:
            Overloaded: No place became free.
            BodyLate: The message did not come in time, or another call needed the place.
            BodyMalformed: The call has no message.
        """
        async with self.messages.seat(context.peer(), self.patience) as place:
            try:
                async with self.messages.waiting(place):
                    data = await context.read()
            except TimeoutError as error:
                raise self._late() from error
        return _one(data)

    async def question(self, context: Context, desk: Desk) -> bytes:
        """The message of a request that is no inference.

        Raises:
            Overloaded: There is no place at the ``desk``.
            BodyLate: The message did not come in time, or another call needed the place.
            BodyMalformed: The call has no message.
            BodyTooLong: The message is longer than any valid one.
        """
        try:
            async with desk.place(context.peer()):
                data = await context.read()
        except TimeoutError as error:
            raise self._late() from error
        return short(_one(data))

    def _late(self) -> RequestInvalid:
        expected = f"all of it within {self.seconds:g} seconds, or sooner where others wait"
        return BodyLate.at("message", expected, NOTHING)

    def admit(self, data: bytes, permit: Permit) -> int:
        """Hold the memory of an inference request; return its bytes that are not raw contents.

        Raises:
            BodyMalformed: The bytes are not a message.
            BodyTooLong: Too many of them are not raw contents.
            Overloaded: There is not enough memory now.
        """
        text = words_in(data)
        if text > self.most_words:
            expected = f"at most {self.most_words} bytes besides raw_input_contents"
            raise BodyTooLong.at("message", expected, text)
        permit.take(2 * len(data) + WEIGHT * text)
        return text


def _brief(places: int, longest_line: int, seconds: float, name: str) -> Desk:
    """Return places for messages that come in one packet with their call."""
    return Desk(
        places,
        longest_line,
        seconds,
        name=name,
        moment=BRIEF,
        patience=BRIEF,
        own_patience=BRIEF,
    )


def short(data: bytes) -> bytes:
    """Return a message that is no inference request.

    Raises:
        BodyTooLong: The message is longer than any valid one.
    """
    if len(data) > LONGEST_QUESTION:
        raise BodyTooLong.at("message", f"at most {LONGEST_QUESTION} bytes", len(data))
    return data


def _one(data: object) -> bytes:
    """A message that was read, if it is one and not the end."""
    if not isinstance(data, bytes):
        raise BodyMalformed.at("message", "one", NOTHING)
    return data
