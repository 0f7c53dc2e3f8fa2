"""`gatewave swap`: one activation exchanged for another, in a trained model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatewave.cli import change_report, model_files, terminal
from gatewave.cli.errors import CommandError, UsageError, needing
from gatewave.cli.options import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    JsonOption,
    ModelArgument,
    ParamOption,
    RtolOption,
    UlpOption,
    numbers,
    verification_plan,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.cli.model_files import RunOnly
    from gatewave.graphs.rewrite.outcome import Outcome


def swap(
    model: ModelArgument,
    source: Annotated[str, typer.Option("--from", help="The activation to replace, such as relu.")],
    to: Annotated[str, typer.Option(help="The activation to put there, such as swish or gelu.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; MODEL.swapped.onnx by default."),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(help="A regular expression; only nodes with matching names are replaced."),
    ] = None,
    param: ParamOption = None,
    verify: Annotated[
        bool, typer.Option(help="Run the swapped model; if it does not run, nothing is written.")
    ] = True,
    inputs: InputsOption = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """Exchange activations of a trained model; measure its accuracy again afterwards.

    The result is another function. It is therefore run, and not compared with the original.

    Examples:

        gatewave swap model.onnx --from relu --to swish
        gatewave swap model.onnx --from swish --to gelu --names 'layer[.][0-3][.]'
    """
    with needing("graphs"):
        from gatewave.graphs.rewrite.swap import WARNING
    plan = verification_plan(inputs, rtol, atol, ulp, budget)
    swapped = functools.partial(
        _swapped, model, source=source, to=to, names=names, reals=numbers(param)
    )
    new, outcome = swapped()
    if not outcome.changes:
        among = "" if names is None else f" among the nodes that match {names!r}"
        left = "; ".join(f"{one.node}: {one.reason}" for one in outcome.skipped)
        raise CommandError(f"{model}: no {source} was replaced{among}. {left or 'There is none.'}")
    written = output or model.with_suffix(".swapped.onnx")
    tried = model_files.RunOnly()
    if verify:
        write = functools.partial(model_files.write_running, path=written, source=model, plan=plan)
        outcome, tried = _written_running(new, outcome, write, swapped)
    else:
        model_files.write(new, written, source=model)
    change_report.say(written, outcome, None, tried=tried, as_json=as_json)
    terminal.say(f"warning: {WARNING}", style="yellow", is_error=True)


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

    model = model_files.read(path)
    try:
        return model, swap_in(
            model, source=source, to=to, names=names, reals=reals, standard=standard
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _written_running(
    new: ir.Model,
    outcome: Outcome,
    write: Callable[[ir.Model], RunOnly],
    swapped: Callable[..., tuple[ir.Model, Outcome]],
) -> tuple[Outcome, RunOnly]:
    """Write ``new``; if ONNX's own operators do not run, the result of ``swapped`` without them.

    The opset may have an operator that ONNX Runtime does not run: Gelu-20 and HardSwish-14 in
    float64, for example, or Swish at opset 25.
    """
    from gatewave.graphs.errors import NotRunnableError

    try:
        return outcome, write(new)
    except NotRunnableError as error:
        note = f"not by ONNX's own operators, which the opset has: {error}"
    try:
        new, outcome = swapped(standard=False)
        return outcome, replace(write(new), notes=[note])
    except NotRunnableError as error:
        raise CommandError(f"{error}; {model_files.UNTRIED}") from error
