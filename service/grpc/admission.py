"""Admission of calls: slots for each kind of call, and the reading of messages within limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gatewave.service.errors import BodyLate, BodyMalformed, BodyTooLong, RequestInvalid
from gatewave.service.grpc.message_stream import Context, MessageStream
from gatewave.service.grpc.messages import structured_bytes
from gatewave.service.grpc.slots import EVICTION_DELAY, EvictionDelays, SlotPool
from gatewave.service.quoting import Words
from gatewave.service.serving.memory import Permit
from gatewave.service.settings import Settings

STRUCTURED_WEIGHT = 32
"""Bytes of memory for each byte of a message that is not raw contents. A typed element of two bytes
takes 8 bytes in the parsed message, 8 in a list and 28 as a Python integer: 22 for each byte. Empty
nested messages take more, 45 to 120, but `structured_bytes` allows only a few thousand of them."""

MAX_CONTROL_BYTES = 1 << 16
"""Longest message of a method other than inference, in bytes. It holds the name of a model
and few other fields."""

CONTROL_SLOTS = 16
"""Messages of methods other than inference that are received at a time. Methods that need no key
have the same number of slots of their own: calls without a key cannot block calls with a key. The
number is small because gRPC receives up to GATEWAVE_MAX_BODY_BYTES before the length is known."""

PUBLIC_QUEUE = 256
"""Calls without a key that may wait for one of these slots. One connection can fill the queue, and
the queue then rejects its calls in favour of callers with fewer calls."""

WATCH_SLOTS = 64
"""Number of health watchers. Each compares its status four times a second. A client calls again
when its watch ends."""

MAX_WATCH_SECONDS = 3600.0
"""Longest duration of a health watch."""

REFLECTION_SLOTS = 16
"""Number of open reflection streams. Command-line tools use them, for a moment at a time."""

PACKET_EVICTION_DELAY = 0.25
"""Idle time in seconds after which a health check or a reflection stream can be evicted. Clients
send these messages, of a few bytes, in one packet with the call. A Kubernetes probe fails after one
second by default. A check must get its slot much sooner."""

MESSAGE_EVICTION_DELAY = 3.0
"""Idle time in seconds after which an inference call can be evicted whose caller has no more than
its share of the slots. A message of 64 MiB, the default limit, takes that long at 180 Mbit/s."""

STREAM_EVICTION_DELAY = 5.0
"""Idle time in seconds after which a stream can be evicted whose caller has no more than its share
of the slots. It is longer than that of a message, since streams may pause between messages."""

STREAM_QUEUE_TIMEOUT = 2 * EVICTION_DELAY
"""Longest wait of a new stream for a slot, in seconds. Within that time an idle stream of a caller
above its share is evicted. The others may stay open for hours, and a longer wait gains little."""


class Admission:
    """Slot pools of all kinds of calls.

    gRPC tells the length of a message only when all of it is in memory. The number of messages that
    are received at a time is therefore bounded: they fit into memory if each has the maximum
    length. The flow control of HTTP/2 delays the others. An open stream has a slot of
    another pool for its whole duration.

    Every kind of call has its own pool. Silent calls of one kind therefore do not block the others:
    health checks are answered however many inference calls wait.

    Attributes:
        inference: Slots in which inference requests are received.
        streams: Slots of open inference streams.
        control: Slots in which messages of other methods are received.
        public: Slots in which messages of methods that need no key are received.
        watchers: Slots of health watchers.
        reflection: Slots of open reflection streams.
        read_timeout: Longest time in seconds for the reception of a message.
        queue_timeout: Longest wait of an inference call for a slot, in seconds.
        max_structured: Greatest number of bytes of a message that are not raw contents. Parsing
            them blocks other requests, like parsing JSON, and takes a multiple of their memory.
    """

    def __init__(self, settings: Settings, stopping: asyncio.Future[None]) -> None:
        self._stopping = stopping
        self.read_timeout = timeout = settings.body_seconds
        self.queue_timeout = settings.timeout_seconds
        self.max_structured = settings.max_json_bytes
        size = max(1, settings.max_memory_bytes // settings.max_body_bytes)
        message_delays = EvictionDelays(within_share=MESSAGE_EVICTION_DELAY)
        packet_delays = EvictionDelays(*(PACKET_EVICTION_DELAY,) * 3)
        # Requests wait for a slot here before they wait in the queue of the workers.
        queue_size = settings.max_queue + size
        self.inference = SlotPool(size, queue_size, timeout, reason="memory", delays=message_delays)
        # Streams of one connection have one owner, who opened the idle ones on purpose: a new one
        # takes their slots only after the read timeout. A shorter read timeout shortens all delays.
        stream_delays = EvictionDelays(
            above_share=min(EVICTION_DELAY, timeout),
            within_share=min(STREAM_EVICTION_DELAY, timeout),
            same_connection=timeout,
        )
        idle = settings.grpc_idle_seconds
        self.streams = SlotPool(size, size, idle, reason="streams", delays=stream_delays)
        self.control = SlotPool(CONTROL_SLOTS, settings.max_queue, timeout)
        self.public = SlotPool(CONTROL_SLOTS, PUBLIC_QUEUE, timeout, delays=packet_delays)
        self.watchers = SlotPool(WATCH_SLOTS, WATCH_SLOTS, MAX_WATCH_SECONDS)
        self.reflection = SlotPool(
            REFLECTION_SLOTS, REFLECTION_SLOTS, timeout, reason="streams", delays=packet_delays
        )

    @property
    def max_calls(self) -> int:
        """Return the number of calls that can hold slots or wait for them."""
        pools = (self.inference, self.streams, self.control, self.public)
        return sum(pool.max_calls for pool in (*pools, self.watchers, self.reflection))

    async def inference_message(self, context: Context) -> bytes:
        """Return the message of an inference call.

        Raises:
            Overloaded: No slot became free.
            BodyLate: The message did not arrive in time, or the call was evicted.
            BodyMalformed: The call has no message.
        """
        async with self.inference.slot(context.peer(), self.queue_timeout) as slot:
            try:
                async with self.inference.idle(slot):
                    data = await context.read()
            except TimeoutError as error:
                raise self._late() from error
        return _checked(data)

    async def control_message(self, context: Context, pool: SlotPool) -> bytes:
        """Return the message of a call other than inference.

        Raises:
            Overloaded: The queue of ``pool`` is full.
            BodyLate: The message did not arrive in time, or the call was evicted.
            BodyMalformed: The call has no message.
            BodyTooLong: The message is longer than any valid one.
        """
        try:
            async with pool.idle_slot(context.peer()):
                data = await context.read()
        except TimeoutError as error:
            raise self._late() from error
        return check_control_length(_checked(data))

    @asynccontextmanager
    async def stream(self, context: Context, pool: SlotPool) -> AsyncIterator[MessageStream]:
        """Hold a slot of ``pool`` for a stream, and yield the stream.

        Raises:
            Overloaded: No slot became free in time.
        """
        async with pool.slot(context.peer(), STREAM_QUEUE_TIMEOUT) as slot:
            yield MessageStream(slot, pool, self._stopping)

    def reserve(self, data: bytes, permit: Permit) -> int:
        """Reserve the memory of an inference request.

        Returns:
            The number of bytes that are not raw contents.

        Raises:
            BodyMalformed: The bytes are not a message.
            BodyTooLong: Too many bytes are not raw contents.
            Overloaded: There is not enough free memory now.
        """
        structured = structured_bytes(data)
        if structured > self.max_structured:
            expected = f"at most {self.max_structured} bytes besides raw_input_contents"
            raise BodyTooLong.at("message", expected, structured)
        # The bytes are in memory twice: as received, and as the fields of the parsed message.
        permit.take(2 * len(data) + STRUCTURED_WEIGHT * structured)
        return structured

    def _late(self) -> RequestInvalid:
        expected = f"all of it within {self.read_timeout:g} seconds, or sooner if other calls wait"
        return BodyLate.at("message", expected, Words("an incomplete message"))


def check_control_length(data: bytes) -> bytes:
    """Return the message of a method other than inference.

    Raises:
        BodyTooLong: The message is longer than any valid one.
    """
    if len(data) > MAX_CONTROL_BYTES:
        raise BodyTooLong.at("message", f"at most {MAX_CONTROL_BYTES} bytes", len(data))
    return data


def _checked(data: object) -> bytes:
    """Return what `read` returned, if it is a message and not the end of the call."""
    if not isinstance(data, bytes):
        raise BodyMalformed.at("message", "one message", Words("the end of the request stream"))
    return data
