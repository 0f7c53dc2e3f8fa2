"""One evaluation of an activation: what is asked for, and what came of it. Nothing here is HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from gatewave.service.activations.catalogue import Catalogue, Function, Params
from gatewave.service.activations.graph import Graph
from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.errors import LimitExceeded, RequestInvalid
from gatewave.service.quoting import NOTHING
from gatewave.service.serving.request import InferenceRequest


@dataclass(frozen=True)
class Plan:
    """What a request asks for, found in the catalogue; it waits for its tensors.

    Attributes:
        activation: Its name.
        function: The formula that the parameters chose.
        graph: The artifact that computes it.
        outputs: What the caller wants, in that order.
        scalars: The scalar parameters that were given.
    """

    activation: str
    function: Function
    graph: Graph
    outputs: tuple[str, ...]
    scalars: Mapping[str, float]

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
        seen: set[str] = set()
        for index, name in enumerate(outputs):
            if name in seen:
                raise RequestInvalid.at(f"outputs[{index}]", "each name once", name)
            seen.add(name)
        graph = function.graph(dtype, outputs)
        given = [name for name in function.scalars if name in params]
        scalars = {name: graph.scalar(name, params[name], at="params") for name in given}
        return cls(activation, function, graph, tuple(outputs), scalars)

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse inputs that are missing, or not the graph's.

        Raises:
            RequestInvalid: It names the first.
        """
        wanted = self.graph.input_names
        for name in wanted:
            if name not in names:
                expected = f"a tensor: {self.activation} needs {', '.join(wanted)}"
                raise RequestInvalid.at(f"inputs.{name}", expected, NOTHING)
        for name in names:
            if name not in wanted:
                raise RequestInvalid.at(f"inputs.{name}", f"only {', '.join(wanted)}", name)

    def call(self, tensors: Mapping[str, Array], deadline: float | None = None) -> InferenceRequest:
        """The evaluation at ``tensors``, which have the graph's names and dtype.

        Raises:
            RequestInvalid: The tensors' shapes differ.
        """
        self.graph.check_shapes(tensors)
        return InferenceRequest(self.graph, tensors, self.outputs, self.scalars, deadline)

    @cached_property
    def head(self) -> bytes:
        """The beginning of its answers in JSON."""
        return orjson.dumps(self.facts())[:-1]

    def facts(self) -> dict[str, Any]:
        """What an answer says besides its tensors."""
        return {
            "activation": self.activation,
            "formula": self.function.formula,
            "dtype": self.graph.dtype,
            "provider": self.graph.provider,
        }


def check_size(tensors: Mapping[str, Array], most: int) -> None:
    """Refuse more than ``most`` numbers.

    Raises:
        LimitExceeded: They are more.
    """
    total = sum([tensor.size for tensor in tensors.values()])
    if total > most:
        raise LimitExceeded.at("inputs", f"at most {most} numbers in all", total)


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
