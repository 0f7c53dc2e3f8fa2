"""HTTP side of the inference pipeline: reception, content codings and answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gatewave.service.codecs.bodies import Body
from gatewave.service.http import compression
from gatewave.service.http.endpoints import Endpoint
from gatewave.service.http.exchange import Exchange
from gatewave.service.http.request_body import BodyRule
from gatewave.service.serving.memory import Permit
from gatewave.service.serving.protocol import Answer, InferenceProtocol
from gatewave.service.serving.request import Timing
from gatewave.service.state import ServiceState
from gatewave.service.system.cancellation import CancelToken

JSON_WEIGHT = 8
"""Bytes of memory for each byte of JSON: the numbers, and the state of the reader."""

RequestHeaders = Mapping[bytes, bytes]

CODING_HEADERS = frozenset({b"content-encoding", b"accept-encoding"})
"""Headers by which a body or its answer is compressed."""


class BodyEndpoint(Endpoint):
    """Endpoint that receives a complete body, in an accepted content coding."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.pipeline = state.pipeline

    @property
    def max_json_bytes(self) -> int:
        """Greatest length of JSON: its reading holds the interpreter's lock in any thread."""
        return min(self.state.settings.max_json_bytes, self.state.settings.max_body_bytes)

    async def receive(
        self, exchange: Exchange, rule: BodyRule, coding: str | None, permit: Permit
    ) -> tuple[Body, Timing]:
        """Return the complete, decompressed body, and the timing of its arrival.

        Raises:
            BodyTooLong: The body is too long, as it came or decompressed.
            BodyLate: It did not come in time.
            Overloaded: There is not enough memory now.
        """
        settings = self.state.settings
        received = replace(rule, max_bytes=settings.max_body_bytes, weight=1) if coding else rule
        body = await exchange.body(received, settings.body_seconds, permit)
        timing = Timing.now(settings.timeout_seconds)
        if coding is None:
            return body, timing
        work = self._decompressed(body, rule.max_bytes, timing, permit)
        whole = await exchange.cancel_on_disconnect(work)
        permit.take(len(whole) * (rule.weight - 1))
        return whole, timing

    async def _decompressed(
        self, body: Body, max_bytes: int, timing: Timing, permit: Permit
    ) -> Body:
        """Return a decompressed body; memory is held as it grows. Long bodies use a thread."""
        longest = min(max_bytes, compression.longest(body))
        source = compression.Decompression(body, max_bytes)
        length = await self.pipeline.work(longest, source.next, CancelToken(timing.deadline))
        while length:
            permit.take(length)
            length = await self.pipeline.finish(longest, source.next)
        return memoryview(source.whole)


class InferenceEndpoint(BodyEndpoint):
    """Endpoint whose requests run through the inference pipeline."""

    @abstractmethod
    def protocol(self, path: str, headers: RequestHeaders) -> InferenceProtocol[Any, Answer]:
        """Return the protocol of a request, as its path and its headers select it.

        Raises:
            ServiceError: The service has no such model or media type.
        """

    @abstractmethod
    def body_rule(self, headers: RequestHeaders) -> BodyRule:
        """Return the rule by which the body is received."""

    def content_coding(self, headers: RequestHeaders) -> str | None:  # noqa: ARG002 - for subclasses
        """Return the coding of the body, if it is compressed."""
        return None

    def accepted_coding(self, headers: RequestHeaders) -> str | None:  # noqa: ARG002 - for subclasses
        """Return the coding in which the client prefers a long answer."""
        return None

    async def answer(self, exchange: Exchange) -> None:
        headers = exchange.headers
        protocol = self.protocol(exchange.scope["path"], headers)
        coding = self.accepted_coding(headers)
        with self.pipeline.budget.permit(exchange.client) as permit:
            rule, received_coding = self.body_rule(headers), self.content_coding(headers)
            body, timing = await self.receive(exchange, rule, received_coding, permit)
            answer = await self.pipeline.answer(
                protocol, body, timing, permit, exchange.cancel_on_disconnect
            )
            if coding is not None and compression.is_worthwhile(answer):
                answer = await self._compressed(exchange, answer, coding, permit)
            await exchange.reply(200, answer.media_type, *answer.parts, headers=answer.headers)

    def fast_path(
        self, path: str, headers: RequestHeaders, body: bytes, arrived: float
    ) -> Answer | None:
        protocol = self.protocol(path, headers)
        coding = None
        # Most requests have neither header: one look spares both methods.
        if not CODING_HEADERS.isdisjoint(headers):
            if self.content_coding(headers) is not None:
                return None
            coding = self.accepted_coding(headers)
        answer = self.pipeline.fast_answer(
            protocol, body, arrived, is_compressed=coding is not None
        )
        if answer is None or coding is None or not compression.is_worthwhile(answer):
            return answer
        return compression.encoded(answer, coding)

    async def _compressed(
        self, exchange: Exchange, answer: Answer, coding: str, permit: Permit
    ) -> Answer:
        size = sum(map(len, answer.parts))
        permit.take_unchecked(size)
        work = partial(compression.encoded, answer, coding)
        return await exchange.cancel_on_disconnect(self.pipeline.finish(size, work))
