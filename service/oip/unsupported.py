"""What the protocol, or Triton, knows and this service has not: refused alike over HTTP and gRPC.

To take it in silence would give another answer than the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable

from gatewave.service.errors import RequestInvalid

OF_TENSORS = frozenset({"shared_memory_region", "classification"})
"""Parameters of inputs and outputs."""

UNLOAD_DEPENDENTS = "unload_dependents"
"""A parameter that Triton's clients always send; no model here depends on another."""


def refuse_of_tensors(parameters: Iterable[str], field: str) -> None:
    """Refuse what changes the answer.

    Raises:
        RequestInvalid: There is such a parameter.
    """
    for name in parameters:
        if name in OF_TENSORS:
            raise RequestInvalid.at(f"{field}.parameters.{name}", "nothing: not supported", name)


def refuse_of_repository(parameters: Iterable[str]) -> None:
    """Refuse files and configurations: those are the repository's own.

    Raises:
        RequestInvalid: A request to load or unload brings such.
    """
    for name in parameters:
        if name != UNLOAD_DEPENDENTS:
            raise RequestInvalid.at("parameters", "none: files come from the repository", name)
