"""Plan of the evaluation of an activation: its formula, graph, outputs and parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from gatewave.service.activations.catalogue import Catalogue, Function, Params
from gatewave.service.activations.model import ActivationModel
from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.errors import RequestInvalid
from gatewave.service.serving.input_names import check_input_names
from gatewave.service.serving.request import InferenceRequest


@dataclass(frozen=True)
class Plan:
    """Part of a request that many requests share: all but the tensors.

    Attributes:
        activation: The name of the activation.
        function: The formula that the parameters select.
        graph: The artifact that computes it.
        outputs: The requested outputs, in their order.
        scalars: The scalar parameters in the request.
    """

    activation: str
    function: Function
    graph: ActivationModel
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
        """Return the plan of a request, with the graph from the catalogue.

        Raises:
            RequestInvalid: A name or a parameter is invalid; the error names it.
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

    def check_names(self, names: Collection[str]) -> None:
        """Refuse inputs that are missing or unknown.

        Raises:
            RequestInvalid: The error names the first.
        """
        check_input_names(names, self.graph.input_names, self.activation)

    def call(self, tensors: Mapping[str, Array], deadline: float | None = None) -> InferenceRequest:
        """Return the inference request for ``tensors``, which have the graph's names and dtype.

        Raises:
            RequestInvalid: The shapes of the tensors differ.
        """
        self.graph.check_shapes(tensors)
        return InferenceRequest(self.graph, tensors, self.outputs, self.scalars, deadline)

    @cached_property
    def head(self) -> bytes:
        """Beginning of each answer in JSON."""
        return orjson.dumps(self.facts())[:-1]

    def facts(self) -> dict[str, Any]:
        """Return the fields of an answer other than its tensors."""
        return {
            "activation": self.activation,
            "formula": self.function.formula,
            "dtype": self.graph.dtype,
            "provider": self.graph.provider,
        }


def elements_dtype(tensors: Mapping[str, Array]) -> DType:
    """Return the common dtype of ``tensors``.

    Raises:
        RequestInvalid: The dtypes differ.
    """
    dtypes = {name: _dtype_of(tensor) for name, tensor in tensors.items()}
    first = next(iter(dtypes))
    for name, dtype in dtypes.items():
        if dtype != dtypes[first]:
            raise RequestInvalid.at(f"inputs.{name}", f"{dtypes[first]}, as {first}", dtype)
    return dtypes[first]


def _dtype_of(tensor: Array) -> DType:
    return next(dtype for dtype, kind in NUMPY.items() if kind == tensor.dtype)
