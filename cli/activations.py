"""Activations named on the command line: ours, or the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewave.cli.errors import UsageError, needing

if TYPE_CHECKING:
    from gatewave.models import Activation


def activations_named(names: list[str]) -> list[Activation]:
    """Return the records named ``sinc``, ``package.module:name`` or ``file.pt2``; by default all.

    Raises:
        UsageError: A name is unknown, or a user's activation has the name of one of ours.
        ExtraMissingError: Torch is not installed.
    """
    with needing("export"):
        from gatewave.export.torch import custom  # noqa: F401 - a user's own needs it, and Torch
        from gatewave.models import ACTIVATIONS
    return [_activation(name) for name in names or ACTIVATIONS]


def _activation(name: str) -> Activation:
    from gatewave.export.errors import NotAnActivationError
    from gatewave.export.torch.custom import PROGRAM, load
    from gatewave.models import ACTIVATIONS

    known = ", ".join(ACTIVATIONS)
    if ":" not in name and not name.endswith(PROGRAM):
        if name not in ACTIVATIONS:
            raise UsageError(f"{name!r} is neither one of {known}, nor package.module:name")
        return ACTIVATIONS[name]
    try:
        found = load(name)
    except NotAnActivationError as error:
        raise UsageError(str(error)) from error
    if found.name in ACTIVATIONS and found is not ACTIVATIONS[found.name]:
        raise UsageError(f"{name} would be called {found.name!r}, which is taken; rename it")
    return found
