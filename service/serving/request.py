"""Inference requests and their timing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf

from gatewave.service.codecs.datatypes import Array
from gatewave.service.observability.tracing.trace import Trace, current
from gatewave.service.serving.model import Model


@dataclass(slots=True)
class InferenceRequest:
    """Model and its checked inputs: names, types and shapes are valid.

    Attributes:
        outputs: Names of the requested outputs, in their order.
        scalars: The model's scalar parameters that differ from their defaults.
        deadline: Latest start, in seconds of `time.monotonic`; also the latest end, if the model is
            not trusted.
        trace: The trace of the request, if it is traced.
    """

    model: Model
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    scalars: Mapping[str, float] = field(default_factory=dict)
    deadline: float | None = None
    trace: Trace | None = field(default_factory=current.get)


@dataclass(slots=True)
class Timing:
    """Times of one request, and the model to which its failure counts.

    Attributes:
        deadline: Latest start, in seconds of `time.monotonic`.
        began: Arrival of the complete request, in seconds of `time.perf_counter`.
        arrived: The same, in seconds of `time.monotonic`; infinite if that clock was not read.
        model: The requested model, once it is known.
    """

    deadline: float | None = None
    began: float = field(default_factory=time.perf_counter)
    arrived: float = field(default_factory=time.monotonic)
    model: Model | None = None

    @classmethod
    def now(cls, seconds: float) -> Timing:
        """Return the timing of a request that has just arrived and must start in ``seconds``."""
        arrived = time.monotonic()
        return cls(arrived + seconds, arrived=arrived)

    def arrival(self) -> float:
        """Return the arrival in seconds of `time.monotonic`, also on the fast path."""
        if self.arrived != inf:
            return self.arrived
        # The fast path reads no second clock, since most requests have no timeout of their own.
        return time.monotonic() - (time.perf_counter() - self.began)

    @contextmanager
    def counted_failure(self) -> Iterator[None]:
        """Context in which an error counts as a failed request to the model, if it is known."""
        try:
            yield
        except BaseException:
            if self.model is not None:
                self.model.meter.unanswered(self.began)
            raise


def run(call: InferenceRequest) -> dict[str, Array]:
    """Return the outputs of ``call``, computed in the current thread."""
    return call.model.run(call.inputs, call.outputs, call.scalars)
