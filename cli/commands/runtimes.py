"""`gatewave runtimes`: the environments that certificates are made in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gatewave.cli.commands import output
from gatewave.cli.errors import CommandError, UsageError, needing

if TYPE_CHECKING:
    from gatewave.certificates.runtimes.catalogue import Runtime

app = typer.Typer(help="The runtimes that certificates are made with.", no_args_is_help=True)


@app.command("list")
def listed(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the runtimes, and which of them are installed.

    Example: `gatewave runtimes list`
    """
    with needing("export"):
        from gatewave.certificates.runtimes import environments
        from gatewave.certificates.runtimes.catalogue import RUNTIMES
    found = {name: environments.is_installed(runtime) for name, runtime in RUNTIMES.items()}
    if as_json:
        document = {
            "folder": str(environments.folder()),
            "runtimes": [
                {
                    "name": runtime.name,
                    "title": runtime.title,
                    "dtypes": runtime.dtypes,
                    "device": runtime.device,
                    "possible": environments.is_possible(runtime),
                    "installed": found[runtime.name],
                }
                for runtime in RUNTIMES.values()
            ],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    table = output.table("name", "runtime", "element types", "")
    for runtime in RUNTIMES.values():
        state = "installed" if found[runtime.name] else ""
        state = state if environments.is_possible(runtime) else "needs an NVIDIA GPU"
        table.add_row(runtime.name, runtime.title, ", ".join(runtime.dtypes), state)
    output.show(table)
    typer.echo(f"environments are in {environments.folder()} (GATEWAVE_RUNTIMES)")


@app.command()
def install(
    names: Annotated[list[str], typer.Argument(help="Names of the list, or all.")],
) -> None:
    """Make the environments of these runtimes, from our own pinned lists.

    Examples: `gatewave runtimes install openvino`, `gatewave runtimes install all`
    """
    with needing("export"):
        from gatewave.certificates.runtimes import environments
        from gatewave.graphs.errors import NotRunnableError
    failed = []
    for runtime in chosen(names):
        if environments.is_installed(runtime):
            typer.echo(f"{runtime.name}: is there")
            continue
        try:
            with Console(stderr=True).status(f"installing {runtime.title}", spinner="dots"):
                environments.install(runtime)
        except NotRunnableError as error:
            failed.append(str(error))
        else:
            typer.echo(f"{runtime.name}: installed")
    if failed:
        raise CommandError("\n".join(failed))


def chosen(names: list[str]) -> list[Runtime]:
    """The runtimes of these names; ``all`` and ``installed`` are names of many.

    All are those that this machine can run: without a GPU, not the one on CUDA.

    Raises:
        UsageError: A name is unknown.
    """
    from gatewave.certificates.runtimes import environments
    from gatewave.certificates.runtimes.catalogue import RUNTIMES, find
    from gatewave.graphs.errors import TargetError

    if "all" in names:
        return [r for r in RUNTIMES.values() if environments.is_possible(r)]
    many = [r for r in RUNTIMES.values() if environments.is_installed(r)]
    found: dict[str, Runtime] = {}
    for name in names:
        try:
            several = many if name == "installed" else [find(name)]
        except TargetError as error:
            raise UsageError(str(error)) from error
        found |= {runtime.name: runtime for runtime in several}
    return list(found.values())
