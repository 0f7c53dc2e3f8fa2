"""`gatewave swap`: one activation exchanged for another, in a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gatewave.commands import graphs
from gatewave.commands.parameters import ParamOption, parsed
from gatewave.commands.rewriting import JsonOption, ModelArgument
from gatewave.errors import CommandError, UsageError, needing


def swap(
    model: ModelArgument,
    source: Annotated[str, typer.Option("--from", help="The activation to replace, as relu.")],
    to: Annotated[str, typer.Option(help="The activation to put there, as swish or gelu.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; MODEL.swapped.onnx by default."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="A regular expression: only nodes with such names.")
    ] = None,
    param: ParamOption = None,
    verify: Annotated[
        bool, typer.Option(help="Try the swapped model: one that does not run is not written.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Exchange activations of a trained model; its accuracy must then be measured again.

    Examples: `gatewave swap model.onnx --from relu --to swish`,
    `gatewave swap model.onnx --from silu --to gelu --names 'layer[.][0-3][.]'`
    """
    with needing("export"):
        from export.model_files import files
        from export.rewrite.swap import WARNING
        from export.rewrite.swap import swap as swap_in
    loaded = graphs.read(model)
    try:
        outcome = swap_in(loaded, source=source, to=to, names=names, reals=_reals(param))
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not outcome.changes:
        among = "" if names is None else f" among the nodes that match {names!r}"
        left = "; ".join(f"{one.node}: {one.reason}" for one in outcome.skipped)
        raise CommandError(f"{model}: no {source} was replaced{among}. {left or 'There is none.'}")
    written = output or model.with_suffix(".swapped.onnx")
    if verify:
        graphs.write_running(loaded, written, source=model)
    else:
        files.write(loaded, written, source=model)
    graphs.say(
        written,
        outcome.changes,
        None,
        skipped=outcome.skipped,
        unproven="another function, so not compared" + ("; it runs" if verify else ""),
        as_json=as_json,
    )
    Console(stderr=True).print(f"warning: {WARNING}", style="yellow", soft_wrap=True)


def _reals(options: list[str] | None) -> dict[str, float]:
    reals = {}
    for name, value in parsed(options).items():
        if isinstance(value, str):
            raise UsageError(f"--param: {name} must be a number, not {value!r}")
        reals[name] = value
    return reals
