"""Parameters of the protocol or of Triton that the service refuses, over HTTP and over gRPC.

Ignored parameters would give an answer other than the requested one.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatewave.service.errors import RequestInvalid

OF_TENSORS = frozenset({"shared_memory_region", "classification"})
"""Parameters of inputs and outputs."""

UNLOAD_DEPENDENTS = "unload_dependents"
"""A parameter that Triton's clients always send; no model here depends on another."""


def refuse_of_tensors(parameters: Iterable[str], field: str) -> None:
    """Refuse parameters of tensors that change the answer.

    Raises:
        RequestInvalid: The service does not support a parameter.
    """
    for name in parameters:
        if name in OF_TENSORS:
            raise RequestInvalid.at(f"{field}.parameters.{name}", "nothing: not supported", name)


def refuse_of_repository(parameters: Iterable[str]) -> None:
    """Refuse files and configurations in requests: the repository has its own.

    Raises:
        RequestInvalid: A request to load or unload has such parameters.
    """
    for name in parameters:
        if name != UNLOAD_DEPENDENTS:
            raise RequestInvalid.at("parameters", "none: files come from the repository", name)
