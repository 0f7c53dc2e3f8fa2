"""What a model is to those who serve it, whoever made it: named ports, and a way to run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from gatewave.service.codecs.datatypes import Array, datatype_of
from gatewave.service.errors import RequestInvalid
from gatewave.service.observability.metrics import Meter
from gatewave.service.serving.input_names import missing_input, unknown_input
from gatewave.service.system.cancellation import CancelToken

PLATFORM = "onnxruntime_onnx"
"""What the Open Inference Protocol calls ONNX graphs that ONNX Runtime runs."""

ANY = -1
"""A size that the model leaves open, in the shape of a port."""


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a model takes or gives.

    Attributes:
        datatype: As the Open Inference Protocol names it.
        shape: The size of each axis; ``ANY`` where it is open.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests to one model are put together.

    Attributes:
        max_size: The most rows in one run.
        max_delay: How long a request may wait for others, in seconds.
    """

    max_size: int
    max_delay: float = 0.0


class Model(ABC):
    """One version of a model, loaded, tried and ready to run.

    Attributes:
        scalars: The scalar parameters of a request, and their defaults.
        batching: The batching of its requests, if they are batched.
        batching_note: The reason for batching or its absence; empty for a model that is never
            batched.
        trusted: Whether it computes in time and memory proportional to its input, so that a small
            request may run on the event loop.
        instances: The most runs of it at a time; 0 leaves it to the lanes.
        isolation: The reason why it is computed in processes of its own; empty if it is not.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.
    """

    name: str
    version: str
    platform: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    scalars: Mapping[str, float]
    batching: Batching | None
    batching_note: str = ""
    trusted: bool
    instances: int = 0
    isolation: str = ""
    warmup: str = ""

    @property
    @abstractmethod
    def provider(self) -> str:
        """ONNX Runtime's execution provider that computes it."""

    @cached_property
    def meter(self) -> Meter:
        """What is counted and timed of it."""
        return Meter(self.name, self.version)

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.inputs)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)

    @cached_property
    def inputs_by_name(self) -> Mapping[str, Port]:
        return {port.name: port for port in self.inputs}

    @cached_property
    def outputs_by_name(self) -> Mapping[str, Port]:
        return {port.name: port for port in self.outputs}

    def check_announced(self, name: str, datatype: str) -> None:
        """Refuse a tensor by its name and its datatype, before its elements are read.

        Raises:
            RequestInvalid: The model has no such input, or one of another datatype.
        """
        port = self.inputs_by_name.get(name)
        if port is None:
            raise unknown_input(name, self.inputs_by_name)
        if datatype != port.datatype:
            raise RequestInvalid.at(f"inputs.{name}.datatype", port.datatype, datatype)

    @abstractmethod
    def check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse inputs that the model does not take.

        Raises:
            RequestInvalid: It names the first that is missing, unknown, or of a wrong shape.
        """

    @abstractmethod
    def output_bytes(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> int:
        """How much memory the outputs will take, as far as the inputs tell."""

    @abstractmethod
    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        scalars: Mapping[str, float],
        token: CancelToken | None = None,
        *,
        reuse_inputs: bool = False,
    ) -> dict[str, Array]:
        """Compute ``outputs``; inputs have passed `check`. It may be called from many threads.

        Args:
            inputs: The tensors, by name.
            outputs: The names of those wanted.
            scalars: The scalar parameters that differ from their defaults.
            token: Ends the run early when it is cancelled.
            reuse_inputs: Whether results may be written into the memory of ``inputs``, which the
                caller then does not read again.

        Raises:
            ModelFailed: The graph could not be run on these inputs.
            Overloaded: There is no memory for it now.
        """

    def scalar(self, name: str, value: object, *, at: str = "parameters") -> float:
        """``value`` for one of `scalars`, if the model can take it.

        Raises:
            RequestInvalid: It is no finite number, or beyond the range that is computed in.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            raise RequestInvalid.at(f"{at}.{name}", "a finite number", value)
        return float(value)


def is_finite(number: float) -> bool:
    """Return whether ``number``, also an integer of any length, is within the range of float64."""
    try:
        return isfinite(number)
    except OverflowError:
        return False


def check_names_and_types(model: Model, inputs: Mapping[str, Array]) -> None:
    """What every model checks.

    Raises:
        RequestInvalid: An input is missing, unknown, or of another datatype.
    """
    for port in model.inputs:
        tensor = inputs.get(port.name)
        if tensor is None:
            raise missing_input(port.name, model.input_names, model.name)
        came = datatype_of(tensor).name
        if came != port.datatype:
            raise RequestInvalid.at(f"inputs.{port.name}.datatype", port.datatype, came)
    if len(inputs) > len(model.inputs):
        known = model.inputs_by_name
        name = next(name for name in inputs if name not in known)
        raise unknown_input(name, known)


def check_outputs(model: Model, outputs: Sequence[str]) -> None:
    """Refuse outputs that the model does not give.

    Raises:
        RequestInvalid: It names the first that is unknown, or asked for twice.
    """
    if not outputs:
        return
    known = model.outputs_by_name
    seen: set[str] = set()
    for index, name in enumerate(outputs):
        if name not in known:
            raise RequestInvalid.at(f"outputs[{index}]", f"one of {', '.join(known)}", name)
        if name in seen:
            raise RequestInvalid.at(f"outputs[{index}]", "each name once", name)
        seen.add(name)
