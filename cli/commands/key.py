"""`gatewave key`: a key for a caller, and its entry for the configuration."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gatewave.service.security.keys import Right, new_key


def key(
    scope: Annotated[
        Right,
        typer.Option(help="What it allows: `infer`; `admin`, to load models too."),
    ] = "infer",
    as_json: Annotated[bool, typer.Option("--json", help="Print both as JSON.")] = False,
) -> None:
    """Make a random key of 256 bits, and print it once, with the line for the configuration.

    Example: `gatewave key --scope admin`
    """
    made, entry = new_key(scope)
    if as_json:
        typer.echo(json.dumps({"key": made, "scope": scope, "entry": entry}))
        return
    typer.echo("The key, for the caller; it is shown now and never again:")
    typer.echo(f"    {made}")
    typer.echo("What the service has to know of it; more keys follow after commas:")
    typer.echo(f"    GATEWAVE_KEYS={entry}")
