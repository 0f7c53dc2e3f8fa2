"""How requests come in: message by message, and never so many at once that memory ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from google.protobuf.message import Message

from service.errors import NOTHING, BodyLate, BodyMalformed, BodyTooLong, Overloaded
from service.rpc.inference_pb2 import ModelInferRequest
from service.rpc.messages import words_in
from service.rpc.methods import Arrival
from service.serving.budget import Permit
from service.settings import Settings

WEIGHT = 32
"""How many bytes a byte comes to that is not raw: an empty message is two bytes, and an object."""

Context = Any
"""`grpc.aio.ServicerContext`, of bytes: its stubs say less than it can do."""


class Intake:
    """Places to receive messages into.

    A message is as long as a body may be, and gRPC tells its length to nobody before it is here, so
    that only so many come at a time as have room together; the others wait, held up by the flow
    control of HTTP/2. A stream has a place of its own for as long as it is open.

    Attributes:
        places: How many unary requests come at a time, and how many streams are open.
        most_words: How many bytes of a message may be other than raw contents: reading them holds
            up others, as reading JSON does, and takes many times their memory.
    """

    def __init__(self, settings: Settings) -> None:
        self.places = max(1, settings.max_memory_bytes // settings.max_body_bytes)
        self.most_words = settings.max_json_bytes
        self.seconds = settings.body_seconds
        self.patience = settings.timeout_seconds
        self.streams = 0
        self._free = asyncio.Semaphore(self.places)

    async def only(self, context: Context) -> bytes:
        """The message of a unary request.

        Raises:
            Overloaded: No place became free.
            BodyLate: It did not come in time.
            BodyMalformed: There is none.
        """
        await self._turn()
        try:
            async with asyncio.timeout(self.seconds):
                data = await context.read()
        except TimeoutError as error:
            expected = f"all of it within {self.seconds:g} seconds"
            raise BodyLate.at("message", expected, NOTHING) from error
        finally:
            self._free.release()
        if not isinstance(data, bytes):
            raise BodyMalformed.at("message", "one", NOTHING)
        return data

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self.patience):
                await self._free.acquire()
        except TimeoutError as error:
            detail = f"{self.places} messages are being received"
            raise Overloaded("memory", detail) from error

    def arrival(
        self, data: bytes, kind: type[Message], context: Context, permit: Permit
    ) -> Arrival:
        """How ``data`` came; its memory is held from here on.

        Raises:
            BodyMalformed: It is no message.
            BodyTooLong: Too much of it is not raw.
            Overloaded: There is no memory for it now.
        """
        began = time.perf_counter()
        text = words_in(data) if kind is ModelInferRequest else len(data)
        if text > self.most_words:
            expected = f"at most {self.most_words} bytes besides raw_input_contents"
            raise BodyTooLong.at("message", expected, text)
        permit.take(2 * len(data) + WEIGHT * text)
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic() + remaining
        return Arrival(len(data), began, deadline, permit)

    def __enter__(self) -> None:
        """Open a stream.

        Raises:
            Overloaded: So many are open already.
        """
        if self.streams >= self.places:
            raise Overloaded("streams", f"{self.places} streams are open")
        self.streams += 1

    def __exit__(self, *_: object) -> None:
        self.streams -= 1
