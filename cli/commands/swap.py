"""`gatewave swap`: one activation exchanged for another, in a trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from gatewave.cli.commands import comparing, graphs
from gatewave.cli.commands.comparing import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    RtolOption,
    UlpOption,
)
from gatewave.cli.commands.parameters import ParamOption, parsed
from gatewave.cli.commands.rewriting import JsonOption, ModelArgument
from gatewave.cli.errors import CommandError, UsageError, needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.graphs.rewrite.outcome import Outcome


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
    inputs: InputsOption = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """Exchange activations of a trained model; its accuracy must then be measured again.

    Examples: `gatewave swap model.onnx --from relu --to swish`,
    `gatewave swap model.onnx --from silu --to gelu --names 'layer[.][0-3][.]'`
    """
    with needing("export"):
        from gatewave.graphs.files import files
        from gatewave.graphs.rewrite.swap import WARNING
    swapped = functools.partial(
        _swapped, model, source=source, to=to, names=names, reals=_reals(param)
    )
    new, outcome = swapped()
    if not outcome.changes:
        among = "" if names is None else f" among the nodes that match {names!r}"
        left = "; ".join(f"{one.node}: {one.reason}" for one in outcome.skipped)
        raise CommandError(f"{model}: no {source} was replaced{among}. {left or 'There is none.'}")
    written = output or model.with_suffix(".swapped.onnx")
    tried = graphs.RunOnly()
    if verify:
        plan = comparing.plan(inputs, rtol, atol, ulp, budget)
        write = functools.partial(graphs.write_running, path=written, source=model, plan=plan)
        outcome, tried = _written_running(new, outcome, write, swapped)
    else:
        files.write(new, written, source=model)
    graphs.say(written, outcome, None, tried=tried, as_json=as_json)
    Console(stderr=True).print(f"warning: {WARNING}", style="yellow", soft_wrap=True)


def _swapped(
    path: Path,
    *,
    source: str,
    to: str,
    names: str | None,
    reals: dict[str, float],
    standard: bool = True,
) -> tuple[ir.Model, Outcome]:
    from gatewave.graphs.rewrite.swap import swap as swap_in

    model = graphs.read(path)
    try:
        return model, swap_in(
            model, source=source, to=to, names=names, reals=reals, standard=standard
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _written_running(
    new: ir.Model,
    outcome: Outcome,
    write: Callable[[ir.Model], graphs.RunOnly],
    swapped: Callable[..., tuple[ir.Model, Outcome]],
) -> tuple[Outcome, graphs.RunOnly]:
    """Write ``new``; if ONNX's own operators do not run, the result of ``swapped`` without them."""
    from gatewave.graphs.errors import NotRunnableError

    try:
        return outcome, write(new)
    except NotRunnableError as error:
        note = f"not by ONNX's own operators, which the opset has: {error}"
    try:
        new, outcome = swapped(standard=False)
        return outcome, replace(write(new), notes=[note])
    except NotRunnableError as error:
        raise CommandError(f"{error}; --no-verify writes it untried") from error


def _reals(options: list[str] | None) -> dict[str, float]:
    reals = {}
    for name, value in parsed(options).items():
        if isinstance(value, str):
            raise UsageError(f"--param: {name} must be a number, not {value!r}")
        reals[name] = value
    return reals
