"""One traced request: plain marks in time, from which `otlp` makes spans."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

Value = str | int | float | bool

MAX_MARKS = 128
"""So many parts are told of one request: a stream may go on for days."""


class Mark(NamedTuple):
    """A part of a request, from and to moments of `time.perf_counter`."""

    name: str
    began: float
    ended: float
    attributes: Mapping[str, Value]


class Trace(ABC):
    """A request, with an id that other services know it by.

    Attributes:
        trace_id: 32 hexadecimal digits, as W3C Trace Context has them.
        recording: Whether marks are wanted; who called may have decided that they are not.
        attributes: What there is to say of the request as a whole.
    """

    __slots__ = ("attributes", "marks", "recording", "trace_id")

    def __init__(self, trace_id: str, *, recording: bool) -> None:
        self.trace_id = trace_id
        self.recording = recording
        self.marks: list[Mark] = []
        self.attributes: dict[str, Value] = {}

    def mark(self, name: str, began: float, ended: float, **attributes: Value) -> None:
        """Note that a part of the request was done, in any thread."""
        if self.recording and len(self.marks) < MAX_MARKS:
            self.marks.append(Mark(name, began, ended, attributes))

    @abstractmethod
    def end(self, name: str, *, failed: bool, attributes: Mapping[str, Value]) -> None:
        """The request is answered; in the context in which the trace began.

        Args:
            name: What was asked for: one of few, as the template of a route.
            failed: Whether the service is to blame for the outcome.
            attributes: What there is to say of the request as a whole, besides.
        """


class Tracer(Protocol):
    """What begins traces, and makes them known."""

    def begin(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        """The trace of a request, which is the current one until it ends.

        Args:
            name: What is asked for, as far as it is known yet.
            headers: In which the caller may say what trace the request is part of.
        """

    def close(self, seconds: float) -> None:
        """Make known what waits to be; give it up after ``seconds``, or before."""


current: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The trace of the request being answered, where traces are on."""
