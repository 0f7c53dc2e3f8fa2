"""From the words of a request to a call that can run: every check that both transports share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import RequestInvalid
from gatewave.service.oip.tensors import check_count
from gatewave.service.serving.model import Model, check_outputs
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.state import ServiceState

MICROSECONDS = 1e6
LONGEST_TIMEOUT = 24 * 3600 * 10**6
"""In microseconds: a day."""


def call_of(  # noqa: PLR0917 - as the protocol lists them
    state: ServiceState,
    model: Model,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    parameters: Mapping[str, Any],
    due: float | None = None,
) -> InferenceRequest:
    """The call that a request asks for.

    Args:
        state: What serves it.
        model: What is to run.
        inputs: The tensors, by name.
        outputs: The names of those wanted; none means all.
        parameters: The request's: ``timeout`` in microseconds, and the model's scalar parameters.
        due: When it must have started, in seconds of `time.monotonic`.

    Raises:
        RequestInvalid: A tensor, an output or a parameter is wrong; the error says which.
    """
    total = sum([tensor.size for tensor in inputs.values()])
    check_count(total, state.settings.max_elements)
    model.check(inputs)
    check_outputs(model, outputs)
    scalars = {
        name: model.scalar(name, parameters[name]) for name in model.scalars if name in parameters
    }
    wanted = tuple(outputs) or model.output_names
    return InferenceRequest(model, inputs, wanted, scalars, due)


def deadline(state: ServiceState, parameters: Mapping[str, Any], arrived: float) -> float:
    """When a request with ``parameters`` must have started, in seconds of `time.monotonic`.

    Args:
        state: What serves it, and knows how long requests may wait that do not say.
        parameters: Its own.
        arrived: When it had come, by the same clock.

    Raises:
        RequestInvalid: ``timeout`` is no whole number of microseconds, or longer than a day.
    """
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= LONGEST_TIMEOUT:
        expected = f"microseconds, a whole number up to {LONGEST_TIMEOUT}"
        raise RequestInvalid.at("parameters.timeout", expected, timeout)
    seconds = timeout / MICROSECONDS if timeout else state.settings.timeout_seconds
    return arrived + seconds
