"""`gatewave key`: a key for a caller, and its entry for the configuration."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from gatewave.cli import terminal
from gatewave.cli.options import JsonOption, choice


def key(
    scope: Annotated[
        str,
        typer.Option(help="`infer` allows requests; `admin` allows loading models, too."),
    ] = "infer",
    as_json: JsonOption = False,
) -> None:
    """Make a random key of 256 bits; print it once, with its line for the configuration.

    The configuration holds only the digest of the key, from which it cannot be computed.

    Examples:

        gatewave key
        gatewave key --scope admin --json
    """
    from gatewave.service.security.keys import Right, new_key

    made, entry = new_key(choice("--scope", scope, get_args(Right)))
    if as_json:
        terminal.say_json({"key": made, "scope": scope, "entry": entry})
        return
    typer.echo("Key for the caller; it is shown only now:")
    typer.echo(f"    {made}")
    typer.echo("Setting of the service; several keys are separated by commas:")
    typer.echo(f"    GATEWAVE_KEYS={entry}")
