"""Activations named on the command line: ours, or the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewave.cli.errors import UsageError, needing

if TYPE_CHECKING:
    from gatewave.models import Activation


def activations_named(targets: list[str]) -> list[Activation]:
    """The records that ``targets`` name: ``sinc``, ``package.module:name``, ``file.pt2``; or all.

    Raises:
        UsageError: A name is unknown, or taken already by one of ours.
        ExtraMissing: Torch is not installed.
    """
    with needing("export"):
        from gatewave.models import ACTIVATIONS
    return [_activation(target) for target in targets or ACTIVATIONS]


def _activation(target: str) -> Activation:
    from gatewave.export.errors import NotAnActivationError
    from gatewave.export.torch.custom import PROGRAM, load
    from gatewave.models import ACTIVATIONS

    known = ", ".join(ACTIVATIONS)
    if ":" not in target and not target.endswith(PROGRAM):
        if target not in ACTIVATIONS:
            raise UsageError(f"{target!r} is neither one of {known}, nor package.module:name")
        return ACTIVATIONS[target]
    try:
        found = load(target)
    except NotAnActivationError as error:
        raise UsageError(str(error)) from error
    if found.name in ACTIVATIONS and found is not ACTIVATIONS[found.name]:
        raise UsageError(f"{target} would be called {found.name!r}, which is taken; rename it")
    return found
