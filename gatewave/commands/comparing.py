"""Options of the commands that compare numbers, and the arrays that --inputs names."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from gatewave.errors import UsageError

INPUTS_HELP = "Real inputs, an .npz of arrays by name"

InputsOption = Annotated[Path | None, typer.Option(help=f"{INPUTS_HELP}; tried first.")]

RtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Allowed, of the number: 1e-4 in float32, by default."),
]

AtolOption = Annotated[
    float | None,
    typer.Option(min=0, help="Allowed, of the scale of the tensor; as --rtol, by default."),
]

UlpOption = Annotated[float, typer.Option(min=0, help="Allowed, in units in the last place.")]


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays in an .npz file, by name.

    Raises:
        UsageError: It is none, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"--inputs {path}: expected an .npz file of arrays: {error}") from error
