"""One evaluation, from a checked request to results; it knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.catalogue import Catalogue, Function, Graph, Params
from service.dtypes import NUMPY, Array, DType, narrowed
from service.errors import NOTHING, LimitExceeded, RequestInvalid


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request asks for, found in the catalogue; it waits for its tensors.

    Attributes:
        activation: Its name.
        function: The formula that the parameters chose.
        graph: The artifact that computes it.
        outputs: What the caller wants, in that order.
        reals: The real parameters that differ from their defaults.
    """

    activation: str
    function: Function
    graph: Graph
    outputs: tuple[str, ...]
    reals: Mapping[str, Array]

    @classmethod
    def make(
        cls,
        catalogue: Catalogue,
        activation: str,
        *,
        params: Params,
        dtype: DType,
        outputs: Sequence[str],
    ) -> Plan:
        """Find the graph that answers.

        Raises:
            RequestInvalid: A name or a parameter is wrong; the error says which.
        """
        function = catalogue.entry(activation).select(params)
        for index, name in enumerate(outputs):
            if name in outputs[:index]:
                raise RequestInvalid.at(f"outputs[{index}]", "each name once", name)
        graph = function.graph(dtype, outputs)
        reals = {
            name: _real(name, float(params[name]), dtype)
            for name in function.reals
            if name in params
        }
        return cls(activation, function, graph, tuple(outputs), reals)

    def run(self, tensors: Mapping[str, Array]) -> Results:
        """Evaluate at ``tensors``.

        Raises:
            RequestInvalid: The tensors' shapes differ.
        """
        first, *others = self.graph.inputs
        for name in others:
            if tensors[name].shape != tensors[first].shape:
                expected = f"the shape of {first}, {list(tensors[first].shape)}"
                raise RequestInvalid.at(f"inputs.{name}", expected, list(tensors[name].shape))
        found = self.graph.run(tensors, self.reals)
        return Results(self, {name: found[name] for name in self.outputs})

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse inputs that are missing, or not the graph's.

        Raises:
            RequestInvalid: It names the first.
        """
        wanted = self.graph.inputs
        for name in wanted:
            if name not in names:
                expected = f"a tensor: {self.activation} needs {', '.join(wanted)}"
                raise RequestInvalid.at(f"inputs.{name}", expected, NOTHING)
        for name in names:
            if name not in wanted:
                raise RequestInvalid.at(f"inputs.{name}", f"only {', '.join(wanted)}", name)


@dataclass(frozen=True, slots=True)
class Results:
    """What an evaluation gave."""

    plan: Plan
    outputs: Mapping[str, Array]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = next(iter(self.outputs.values())).shape
        return shape

    def facts(self) -> dict[str, Any]:
        """All of the answer but the tensors."""
        return {
            "activation": self.plan.activation,
            "formula": self.plan.function.formula,
            "dtype": self.plan.graph.dtype,
            "shape": self.shape,
            "provider": self.plan.graph.session.provider,
        }


def evaluate(
    plan: Plan, inputs: Mapping[str, Any], decode: Callable[[str, Any], Array], max_elements: int
) -> Results:
    """Decode the inputs of ``plan`` and run it, within ``max_elements`` in all.

    Raises:
        RequestInvalid: An input is missing, unknown, malformed, or of another shape.
        LimitExceeded: They are too many.
    """
    plan.check_names(list(inputs))
    tensors = {name: decode(name, inputs[name]) for name in plan.graph.inputs}
    total = sum(tensor.size for tensor in tensors.values())
    if total > max_elements:
        raise LimitExceeded.at("inputs", f"at most {max_elements} numbers in all", total)
    return plan.run(tensors)


def _real(name: str, value: float, dtype: DType) -> Array:
    """A real parameter in the dtype that is computed in: 16-bit floats compute in float32."""
    wide: DType = "float64" if dtype == "float64" else "float32"
    array, lost = narrowed(np.array(value), wide)
    if lost is not None:
        raise RequestInvalid.at(f"params.{name}", f"a number within the range of {wide}", value)
    return array


def elements_dtype(tensors: Mapping[str, Array]) -> DType:
    """The dtype that all ``tensors`` have.

    Raises:
        RequestInvalid: They differ.
    """
    dtypes = {name: _dtype_of(tensor) for name, tensor in tensors.items()}
    first = next(iter(dtypes))
    for name, dtype in dtypes.items():
        if dtype != dtypes[first]:
            raise RequestInvalid.at(f"inputs.{name}", f"{dtypes[first]}, as {first}", dtype)
    return dtypes[first]


def _dtype_of(tensor: Array) -> DType:
    return next(dtype for dtype, kind in NUMPY.items() if kind == tensor.dtype)
