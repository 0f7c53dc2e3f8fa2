"""The `gatewave` command: its subcommands, and the handling of their errors.

Exit status: 0 done; 1 it could not be done, or something is not as it should be; 2 the request
itself was wrong.
"""

from __future__ import annotations

from gatewave.cli import early_signals  # noqa: F401 - first of all: it hears SIGTERM

# isort: split
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from gatewave.cli.commands import (
    certify,
    doctor,
    evaluate,
    export,
    fuse,
    inspect,
    key,
    lower,
    output,
    plot,
    runtimes,
    serve,
    swap,
    verify,
)
from gatewave.cli.errors import CommandError
from gatewave.cli.files import FileError
from gatewave.service.errors import RequestInvalid, ServiceError, SettingsInvalid

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
        output.say(f"gatewave {version('gatewave')}")
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
    try:
        app()
    except (RequestInvalid, SettingsInvalid, FileError) as error:
        sys.exit(_said(error, 2))
    except CommandError as error:
        sys.exit(_said(error, error.status))
    except ServiceError as error:
        sys.exit(_said(error, 1))
    except Exception as error:
        status = _status_in_export(error)
        if status is None:
            raise
        sys.exit(_said(error, status))


def _status_in_export(error: Exception) -> int | None:
    """The exit status of an error of `export`, which serving must not import."""
    errors = sys.modules.get("gatewave.graphs.errors")  # if it is not there, none was raised
    if errors is None or not isinstance(error, errors.GatewaveError):
        return None
    return 2 if isinstance(error, (errors.ModelError, errors.TargetError)) else 1


def _said(error: Exception, status: int) -> int:
    output.say(f"error: {error}", style="red", is_error=True)
    return status
