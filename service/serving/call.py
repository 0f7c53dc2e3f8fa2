"""What is asked of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from service.dtypes import Array
from service.serving.model import Model
from service.tracing.trace import Trace, current


@dataclass(slots=True)
class Call:
    """A model, and what it is to compute: all names, types and shapes are checked.

    Attributes:
        outputs: What is wanted, in that order.
        reals: The model's real parameters that differ from their defaults.
        deadline: When it must have started, in seconds of `time.monotonic`.
        trace: Of the request that asks, if it is traced.
    """

    model: Model
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    reals: Mapping[str, float] = field(default_factory=dict)
    deadline: float | None = None
    trace: Trace | None = field(default_factory=current.get)


def run(call: Call) -> dict[str, Array]:
    """The outputs of ``call``, computed here and now."""
    return call.model.run(call.inputs, call.outputs, call.reals)
