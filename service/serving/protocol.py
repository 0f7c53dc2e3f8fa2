"""Interface of a wire protocol to the inference pipeline.

A protocol supplies `InferenceProtocol.decode` and `InferenceProtocol.encode`. Admission, deadlines,
threads, memory, metrics and cancellation belong to the pipeline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar, Union

from gatewave.service.codecs.bodies import Body, Part
from gatewave.service.codecs.datatypes import Array
from gatewave.service.codecs.simd import NotPlain
from gatewave.service.serving.request import InferenceRequest, Timing

Source = TypeVar("Source")
Output = TypeVar("Output")


@dataclass(slots=True)
class Decoded(Generic[Source]):
    """Decoded request.

    Attributes:
        source: The request in the protocol's own terms; `InferenceProtocol.encode` needs it.
        call: The checked inference request.
    """

    source: Source
    call: InferenceRequest


@dataclass(slots=True)
class Stage(Generic[Source]):
    """Bounded piece of decoding.

    Attributes:
        size: Cost of the work in bytes of plain text: it decides between event loop and thread.
        work: Return the decoded request, or the next stage if its cost is known only now.
        memory: Bytes that the result takes in addition to the body.
    """

    size: int
    work: Callable[[], Decoding[Source]]
    memory: int = 0


@dataclass(slots=True)
class TextStage(Generic[Source]):
    """Decoding of JSON text by a quick reader, or by a complete reader if the text is not plain.

    Attributes:
        text: The JSON.
        timing: The timing of the request.
        plain: The quick reader; it raises `NotPlain` for text that it does not read.
        complete: The complete reader, which reports each error.
    """

    text: bytes
    timing: Timing
    plain: Callable[[bytes, Timing], Decoded[Source]]
    complete: Callable[[bytes, Timing], Decoded[Source]]

    def read(self) -> Decoded[Source]:
        """Return the request, by the complete reader if the text is not plain."""
        with suppress(NotPlain):
            return self.read_plain()
        # After the handler of that error, which would keep simdjson's document alive.
        return self.read_completely()

    def read_plain(self) -> Decoded[Source]:
        """Return the request as the quick reader reads it."""
        return self.plain(self.text, self.timing)

    def read_completely(self) -> Decoded[Source]:
        """Return the request as the complete reader reads it."""
        return self.complete(self.text, self.timing)


Decoding: TypeAlias = Union[Decoded[Source], Stage[Source], TextStage[Source]]  # noqa: UP007 - of types that are not yet defined


@dataclass(slots=True)
class Answer:
    """Body of an answer in parts, and the headers that describe it."""

    media_type: bytes
    parts: Sequence[Part]
    headers: Sequence[tuple[bytes, bytes]] = ()


class InferenceProtocol(ABC, Generic[Source, Output]):
    """Wire protocol, as the head of one request selects it: media types, the model in a path."""

    @abstractmethod
    def decode(self, body: Body, timing: Timing) -> Decoding[Source]:
        """Return the decoded request, or the first stage of its decoding.

        Implementations set ``timing.model`` when they know the model, so that errors after this
        point count as its failures.

        Raises:
            RequestInvalid: The request is invalid.
        """

    @abstractmethod
    def encode(self, decoded: Decoded[Source], outputs: Mapping[str, Array]) -> Output:
        """Return the answer to a request."""

    @abstractmethod
    def result_weight(self, decoded: Decoded[Source]) -> int:
        """Return the bytes of memory that the answer takes for each byte of the results."""

    @abstractmethod
    def encoding_size(self, decoded: Decoded[Source], outputs: Mapping[str, Array]) -> int:
        """Return the cost of `encode` in bytes of plain text; 0 if it only makes views."""
