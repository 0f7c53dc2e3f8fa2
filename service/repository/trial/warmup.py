"""First run of a model: on zeros and on ones, with sizes on which it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np

from gatewave.service.codecs.datatypes import BYTES, DATATYPES, Array
from gatewave.service.errors import ModelFailed, ModelRefused
from gatewave.service.onnx.arena import arena_needed
from gatewave.service.repository.config import Config
from gatewave.service.repository.model import InProcessModel
from gatewave.service.repository.trial.shapes import Shapes, candidates, format_shapes
from gatewave.service.serving.model import ANY, Port

SEARCH_SECONDS = 20.0
"""Time limit for finding sizes on which a model runs, in seconds; a trial has two minutes."""


def warm_up(
    model: InProcessModel,
    config: Config,
    found: Shapes | None = None,
    seconds: float = SEARCH_SECONDS,
) -> Shapes:
    """Run ``model`` on zeros and on ones; return the shapes of the inputs that it ran on.

    Sizes that neither the configuration nor the graph gives are 1, and raised until the model runs.

    Args:
        model: A model that is loaded.
        config: Its configuration.
        found: Shapes that it ran on before; without them, sizes are tried.
        seconds: Time after which no further sizes are tried.

    Raises:
        ModelRefused: It computes neither, or the configuration does not fit it.
    """
    if config.warmup is None:
        return {}
    check_shapes(model, config.warmup)
    # The time limits the number of runs; the process of the trial limits the time of each run.
    end = time.monotonic() + seconds
    tried: list[Shapes] = []
    errors: list[ModelFailed] = []
    for shapes in candidates(model, found or config.warmup):
        error = _error_of_run(model, shapes)
        if error is None:
            return shapes
        tried.append(shapes)
        errors.append(error)
        # If a run with sizes of 1 needs too much memory, a run with larger sizes does as well.
        if time.monotonic() > end or (len(tried) == 1 and _is_too_large(error)):
            break
    cause = next(filter(_is_too_large, errors), errors[0])
    raise ModelRefused(f"{cause}; {_advice(tried)}") from cause


def _error_of_run(model: InProcessModel, shapes: Shapes) -> ModelFailed | None:
    """Run ``model`` on zeros and on ones; return the error if neither can be computed.

    Either suffices: an index may have to be 0, and a divisor or a length may not.
    """
    errors = []
    for value in (0, 1):
        inputs = {
            port.name: _full(port, shapes[port.name], value)
            for port in model.inputs
            if port.name in shapes
        }
        try:
            model.run(inputs, model.output_names, {})
        except ModelFailed as error:
            errors.append(error)
    return errors[-1] if len(errors) > 1 else None


def _is_too_large(error: BaseException) -> bool:
    return arena_needed(error, 0) is not None


def _advice(tried: list[Shapes]) -> str:
    """Return the shapes that were tried, and the setting that replaces them."""
    text = f"tried with {format_shapes(tried[0]) or 'no inputs'}"
    if len(tried) > 1:
        largest = max(tried, key=lambda shapes: sum(map(math.prod, shapes.values())))
        text += f" and {len(tried) - 1} others, up to {format_shapes(largest)}"
    return f"{text}: set other shapes under warmup in config.yaml"


def check_shapes(model: InProcessModel, warmup: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the configuration gives shapes to inputs that can have them.

    Raises:
        ModelRefused: It names another input, or a shape that does not fit.
    """
    for name, shape in warmup.items():
        port = next((port for port in model.inputs if port.name == name), None)
        if port is None:
            known = ", ".join(model.input_names) or "no inputs"
            raise ModelRefused(f"config.yaml: warmup.{name}: expected only {known}")
        if name not in model.unranked and (
            len(shape) != len(port.shape)
            or any(size not in {ANY, given} for size, given in zip(port.shape, shape, strict=True))
        ):
            expected = f"{list(port.shape)}, where {ANY} is any size"
            raise ModelRefused(
                f"config.yaml: warmup.{name}: expected {expected}, got {list(shape)}"
            )


def _full(port: Port, shape: tuple[int, ...], value: int) -> Array:
    if port.datatype == BYTES:
        return np.full(shape, str(value), np.object_)
    return np.full(shape, value, DATATYPES[port.datatype].numpy)
