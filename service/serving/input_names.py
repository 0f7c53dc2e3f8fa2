"""Errors for missing and unknown inputs, the same for each protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gatewave.service.errors import RequestInvalid
from gatewave.service.quoting import NOTHING


def check_input_names(names: Collection[str], wanted: Collection[str], model: str) -> None:
    """Refuse inputs of ``model`` that are missing or unknown.

    Raises:
        RequestInvalid: The error names the first missing input, or the first unknown one.
    """
    for name in wanted:
        if name not in names:
            raise missing_input(name, wanted, model)
    for name in names:
        if name not in wanted:
            raise unknown_input(name, wanted)


def missing_input(name: str, wanted: Iterable[str], model: str) -> RequestInvalid:
    """Return the error for an input that the request lacks."""
    expected = f"a tensor: {model} needs {', '.join(wanted)}"
    return RequestInvalid.at(f"inputs.{name}", expected, NOTHING)


def unknown_input(name: str, wanted: Iterable[str]) -> RequestInvalid:
    """Return the error for an input that the model does not have."""
    return RequestInvalid.at(f"inputs.{name}", f"only {', '.join(wanted) or 'no inputs'}", name)
