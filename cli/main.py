"""The `gatewave` command: its subcommands, and the handling of their errors.

Exit status: 0 done; 1 the command could not be done, or found a fault; 2 the request was wrong.

In the help of a command, a paragraph must stand before "Examples:": typer 0.29 removes the
indentation of a block that follows the first line and one more.

`gatewave --help` imports every command. A command therefore imports what it computes with in its
function, under `needing`: NumPy, onnx, ONNX Runtime and Torch take from 0.2 to 3 seconds, and the
extra that installs them may be missing.
"""

from __future__ import annotations

from gatewave.cli import early_signals  # noqa: F401 - before imports that take time

# isort: split
import sys
from typing import Annotated

import typer

from gatewave.cli import lazy_imports, terminal
from gatewave.cli.commands import (
    certify,
    doctor,
    evaluate,
    export,
    fuse,
    inspect,
    key,
    lower,
    plot,
    runtimes,
    serve,
    swap,
    verify,
)
from gatewave.cli.errors import CommandError

app = typer.Typer(
    name="gatewave",
    help="Activation functions from Torch to production.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("inspect")(inspect.inspect)
app.command("fuse")(fuse.fuse)
app.command("swap")(swap.swap)
app.command("lower")(lower.lower)
app.command("verify")(verify.verify)
app.command("certify")(certify.certify)
app.add_typer(runtimes.app, name="runtimes")
app.command("eval")(evaluate.evaluate)
app.command("plot")(plot.plot)
app.command("doctor")(doctor.doctor)
app.command("key")(key.key)


def _show_version(*, wanted: bool) -> None:
    if wanted:
        from gatewave import __version__

        terminal.say(f"gatewave {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command, and turn each error of ours into a line and an exit status."""
    lazy_imports.install()
    try:
        app()
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        terminal.say(f"error: {_message(error)}", style="red", is_error=True)
        sys.exit(status)


def _status(error: Exception) -> int | None:
    """Return the exit status of an error of ours, or of a file; None for a defect."""
    if isinstance(error, CommandError):
        return error.status
    if isinstance(error, OSError) and error.filename is not None:
        return 1
    # A room that was not imported has raised no error, and takes time to import.
    if service := sys.modules.get("gatewave.service.errors"):
        if isinstance(error, (service.RequestInvalid, service.SettingsInvalid)):
            return 2
        if isinstance(error, service.ServiceError):
            return 1
    graphs = sys.modules.get("gatewave.graphs.errors")
    if graphs and isinstance(error, graphs.GatewaveError):
        return 2 if isinstance(error, (graphs.ModelError, graphs.TargetError)) else 1
    return None


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
