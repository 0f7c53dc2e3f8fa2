"""Interface of a model: named inputs and outputs, checks, and a method to run it."""

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
"""Name in the Open Inference Protocol of ONNX graphs that ONNX Runtime runs."""

ANY = -1
"""Open size, in the shape of a port."""


@dataclass(frozen=True, slots=True)
class Port:
    """Input or output tensor of a model.

    Attributes:
        datatype: Name in the Open Inference Protocol.
        shape: Size of each axis; ``ANY`` if it is open.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Batching:
    """Limits of the batches of one model.

    Attributes:
        max_size: Limit on the rows of one run.
        max_delay: Longest wait of a request for others, in seconds.
    """

    max_size: int
    max_delay: float = 0.0


class Model(ABC):
    """One loaded and tested version of a model.

    Attributes:
        scalars: The scalar parameters of a request, and their defaults.
        batching: The batching of its requests, if they are batched.
        batching_note: The reason for batching or its absence; empty for a model that is never
            batched.
        trusted: True if its time and memory are proportional to its input. Small requests then run
            on the event loop, and runs are not cancelled at the deadline.
        instances: Limit on concurrent runs; 0 leaves it to the worker pool.
        isolation: Reason for computing it in separate processes; empty if it is not.
        warmup: Shapes of the inputs of its first run, if sizes were raised for it.
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
        """Counters and histograms of this version."""
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
            RequestInvalid: The error names the first that is missing, unknown, or of a wrong shape.
        """

    @abstractmethod
    def output_bytes(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> int:
        """Return the bytes of the outputs, as far as the inputs determine them."""

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
        """Compute ``outputs`` from inputs that have passed `check`; called from any thread.

        Args:
            inputs: The tensors, by name.
            outputs: Names of the requested outputs.
            scalars: The scalar parameters that differ from their defaults.
            token: Ends the run early when it is cancelled.
            reuse_inputs: Permission to write results into the memory of ``inputs``, which the
                caller then does not read again.

        Raises:
            ModelFailed: The graph could not be run on these inputs.
            Overloaded: There is no memory for it now.
        """

    def scalar(self, name: str, value: object, *, at: str = "parameters") -> float:
        """Return ``value`` for one of `scalars`.

        Raises:
            RequestInvalid: It is not a finite number, or is out of range for the model's dtype.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
            raise RequestInvalid.at(f"{at}.{name}", "a finite number", value)
        return float(value)


def is_finite(number: float) -> bool:
    """Return True if ``number``, also an integer of any length, is within the range of float64."""
    try:
        return isfinite(number)
    except OverflowError:
        return False


def check_names_and_types(model: Model, inputs: Mapping[str, Array]) -> None:
    """Check the names and datatypes of all inputs.

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
    """Refuse names that are not outputs of the model, or are repeated.

    Raises:
        RequestInvalid: The error names the first of them.
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
