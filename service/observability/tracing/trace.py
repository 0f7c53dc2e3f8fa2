"""Trace of one request: time spans, from which `otlp` makes spans of OpenTelemetry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

Value = str | int | float | bool

MAX_MARKS = 128
"""Most marks of one request: a stream may go on for days."""


class Mark(NamedTuple):
    """Part of a request, between two times of `time.perf_counter`."""

    name: str
    began: float
    ended: float
    attributes: Mapping[str, Value]


class Trace(ABC):
    """Trace of one request.

    Attributes:
        trace_id: Id of 32 hexadecimal digits, as in W3C Trace Context.
        recording: Whether marks are kept; the caller may have disabled sampling.
        attributes: Attributes of the whole request.
    """

    __slots__ = ("attributes", "marks", "recording", "trace_id")

    def __init__(self, trace_id: str, *, recording: bool) -> None:
        self.trace_id = trace_id
        self.recording = recording
        self.marks: list[Mark] = []
        self.attributes: dict[str, Value] = {}

    def mark(self, name: str, began: float, ended: float, **attributes: Value) -> None:
        """Record a part of the request; called in any thread."""
        if self.recording and len(self.marks) < MAX_MARKS:
            self.marks.append(Mark(name, began, ended, attributes))

    @abstractmethod
    def end(self, name: str, *, failed: bool, attributes: Mapping[str, Value]) -> None:
        """End the trace, in the context in which it began.

        Args:
            name: Name of the request, of a bounded set, such as the template of a route.
            failed: Whether the service caused the failure.
            attributes: Further attributes of the whole request.
        """


class Tracer(Protocol):
    """Factory and exporter of traces."""

    def begin(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        """Begin the trace of a request; it is the current trace until it ends.

        Args:
            name: Provisional name of the request.
            headers: Headers of the request, which may name the trace of the caller.
        """

    def close(self, seconds: float) -> None:
        """Export the waiting traces; give up after ``seconds`` at the latest."""


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the current request, if requests are traced."""
