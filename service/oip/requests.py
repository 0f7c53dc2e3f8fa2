"""Checks of inference requests that HTTP and gRPC share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatewave.service.codecs.count_limits import check_elements
from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import RequestInvalid
from gatewave.service.serving.model import Model, check_outputs
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.state import ServiceState

MICROSECONDS = 1e6
LONGEST_TIMEOUT = 24 * 3600 * 10**6
"""Longest timeout in microseconds: a day."""


def call_of(  # noqa: PLR0917 - as the protocol lists them
    state: ServiceState,
    model: Model,
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
    parameters: Mapping[str, Any],
    due: float | None = None,
) -> InferenceRequest:
    """Return the checked inference request.

    Args:
        state: The state of the service.
        model: The requested model.
        inputs: The tensors, by name.
        outputs: The names of the requested outputs; an empty sequence means all.
        parameters: ``timeout`` in microseconds, and the model's scalar parameters.
        due: The latest start, in seconds of `time.monotonic`.

    Raises:
        RequestInvalid: A tensor, an output or a parameter is invalid; the error names it.
    """
    total = sum([tensor.size for tensor in inputs.values()])
    check_elements(total, state.settings.max_elements)
    model.check(inputs)
    check_outputs(model, outputs)
    scalars = {
        name: model.scalar(name, parameters[name]) for name in model.scalars if name in parameters
    }
    wanted = tuple(outputs) or model.output_names
    return InferenceRequest(model, inputs, wanted, scalars, due)


def deadline(state: ServiceState, parameters: Mapping[str, Any], arrived: float) -> float:
    """Return the latest start of a request, in seconds of `time.monotonic`.

    Args:
        state: The state of the service, with the default timeout.
        parameters: The parameters of the request.
        arrived: The time of its arrival, by the same clock.

    Raises:
        RequestInvalid: ``timeout`` is not a whole number of microseconds, or longer than a day.
    """
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= LONGEST_TIMEOUT:
        expected = f"microseconds, a whole number up to {LONGEST_TIMEOUT}"
        raise RequestInvalid.at("parameters.timeout", expected, timeout)
    seconds = timeout / MICROSECONDS if timeout else state.settings.timeout_seconds
    return arrived + seconds
