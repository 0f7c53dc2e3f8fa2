"""What is asked of a model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewave.service.codecs.datatypes import Array
from gatewave.service.observability.tracing.trace import Trace, current
from gatewave.service.serving.model import Model


@dataclass(slots=True)
class InferenceRequest:
    """A model and its checked inputs: names, types and shapes are valid.

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
    """How a request came.

    Attributes:
        deadline: When it must have started, in seconds of `time.monotonic`.
        began: When all of it had come, in seconds of `time.perf_counter`.
    """

    deadline: float | None = None
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def now(cls, patience: float) -> Timing:
        """Of a request that has just come, and waits for ``patience`` seconds."""
        return cls(time.monotonic() + patience)


def run(call: InferenceRequest) -> dict[str, Array]:
    """The outputs of ``call``, computed here and now."""
    return call.model.run(call.inputs, call.outputs, call.scalars)
