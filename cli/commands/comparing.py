"""Options of the commands that compare numbers, and reading the arrays of --inputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gatewave import service
from gatewave.cli.errors import UsageError, needing

if TYPE_CHECKING:
    from gatewave.graphs.verify.verification_plan import VerificationPlan

KERNELS = Path(service.__file__).with_name("libgatewave.so")
"""Path of the library of our kernels, if it is built."""

INPUTS_HELP = "Real inputs, an .npz of arrays by name"

InputsOption = Annotated[Path | None, typer.Option(help=f"{INPUTS_HELP}; tried first.")]

RtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Relative tolerance; 1e-4 in float32 by default."),
]

AtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Tolerance relative to the tensor's scale; as --rtol, by default."),
]

UlpOption = Annotated[float, typer.Option(min=0, help="Tolerance in units in the last place.")]

BudgetOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="Time for all cases together, as 90s or 5m: small ones come first; larger ones that "
        "do not fit are left out and reported.",
    ),
]

BUDGET = "60s"

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?)([smh]?)")


def seconds(option: str, text: str) -> float:
    """Return the seconds of a time such as ``90``, ``90s``, ``1.5m`` or ``2h``.

    Raises:
        UsageError: It is not a time above 0.
    """
    found = TIME.fullmatch(text.strip())
    time = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not time:
        raise UsageError(f"{option}: expected a time above 0, as 60s, 5m or 1h, got {text!r}")
    return time


def plan(
    inputs: Path | None,
    rtol: float | None,
    atol: float | None,
    ulp: float,
    budget: str,
) -> VerificationPlan:
    """Return the settings of a comparison from a command's options.

    Raises:
        UsageError: ``inputs`` is not a file of arrays, or ``budget`` is not a time.
    """
    from gatewave.graphs.verify.allowance import Allowance
    from gatewave.graphs.verify.verification_plan import VerificationPlan

    return VerificationPlan(
        tolerance=Allowance(rtol, atol, ulp),
        inputs=None if inputs is None else arrays(inputs),
        kernels=KERNELS if KERNELS.exists() else None,
        budget=seconds("--budget", budget),
    )


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays in an .npz file, by name.

    Raises:
        UsageError: It is not an .npz file, or holds Python objects.
    """
    with needing("export"):
        from gatewave.graphs.files import npz
    try:
        return npz.read(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--inputs {path}: expected an .npz file of arrays: {error}") from error
