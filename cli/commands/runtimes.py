"""`gatewave runtimes`: the environments that certificates are made in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gatewave.cli import terminal
from gatewave.cli.errors import CommandError, UsageError, needing
from gatewave.cli.options import JsonOption

if TYPE_CHECKING:
    from gatewave.certificates.runtimes.catalogue import Runtime

app = typer.Typer(help="List and install the runtimes that certify models.", no_args_is_help=True)


@app.command("list")
def listed(as_json: JsonOption = False) -> None:
    """List the runtimes and their element types, and which of them are installed.

    `gatewave certify` runs models on them.

    Examples:

        gatewave runtimes list
        gatewave runtimes list --json
    """
    with needing("graphs"):
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
        terminal.say_json(document)
        return
    table = terminal.table("name", "runtime", "element types", "")
    for runtime in RUNTIMES.values():
        state = "installed" if found[runtime.name] else ""
        state = state if environments.is_possible(runtime) else "needs an NVIDIA GPU"
        table.add_row(runtime.name, runtime.title, ", ".join(runtime.dtypes), state)
    terminal.show(table)
    typer.echo(f"environments are in {environments.folder()} (GATEWAVE_RUNTIMES)")


@app.command()
def install(
    names: Annotated[list[str], typer.Argument(help="Names in `gatewave runtimes list`, or all.")],
    as_json: JsonOption = False,
) -> None:
    """Make a Python environment for each of these runtimes, from pinned requirements.

    The environments are subfolders of GATEWAVE_RUNTIMES, by default of the user's cache.

    Examples:

        gatewave runtimes install openvino
        gatewave runtimes install openvino --json
    """
    with needing("graphs"):
        from gatewave.certificates.runtimes import environments
        from gatewave.graphs.errors import NotRunnableError
    failed = []
    states = {}
    for runtime in chosen(names):
        state = "was installed"
        if not environments.is_installed(runtime):
            try:
                with terminal.working(f"installing {runtime.title}"):
                    environments.install(runtime)
            except NotRunnableError as error:
                failed.append(str(error))
                continue
            state = "installed"
        states[runtime.name] = state
        if not as_json:
            typer.echo(f"{runtime.name}: {state}")
    if as_json:
        terminal.say_json(states)
    if failed:
        raise CommandError("\n".join(failed))


def chosen(names: list[str]) -> list[Runtime]:
    """Return the runtimes of these names; ``all`` and ``installed`` stand for several.

    ``all`` are those that this machine can run: without a GPU, not the one on CUDA.

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
