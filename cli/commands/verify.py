"""`gatewave verify`: comparison of two models on sampled inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from gatewave.cli import terminal
from gatewave.cli.errors import needing
from gatewave.cli.options import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    JsonOption,
    ModelArgument,
    RtolOption,
    UlpOption,
    verification_plan,
)

if TYPE_CHECKING:
    from rich.table import Table

    from gatewave.graphs.verify.report import Compared, Dropped, Report

MAX_SHOWN = 3
"""Cases of each sort that are listed for people; `--json` has all."""


def verify(
    original: ModelArgument,
    rewritten: ModelArgument,
    inputs: InputsOption = None,
    site: Annotated[
        list[str] | None,
        typer.Option(help="Name of a value within both graphs to compare too."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated inputs.")] = 0,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Time limit in seconds for each run of a model.")
    ] = 120.0,
    strict: Annotated[
        bool, typer.Option(help="Report every difference, also where only one result overflows.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two models on sampled inputs; exit with 1 if a difference is found.

    Inputs are generated with the shapes, ranges and special values that the original takes, and
    all outputs are compared. Neither file is changed, and each model runs in its own process, so a
    crash ends only that. The result is evidence from N samples, not a proof.

    Examples:

        gatewave verify model.onnx fused.onnx
        gatewave verify model.onnx fused.onnx --inputs real.npz --json
    """
    with needing("graphs"):
        from gatewave.graphs.verify import verifier
    plan = replace(
        verification_plan(inputs, rtol, atol, ulp, budget),
        sites=site or (),
        seed=seed,
        timeout=timeout,
        strict=strict,
    )
    with terminal.working("running both models"):
        report = verifier.verify(original, rewritten, plan)
    if as_json:
        terminal.say_json(report.as_dict())
    else:
        _show(report)
    if not report.holds:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    for ran in report.ran:
        why = f" (not {ran.why})" if ran.why else ""
        terminal.say(f"{ran.model}: run by {ran.runtime}{why}")
    if report.outputs or report.sites:
        terminal.show(_differences(report))
    for words, dropped in (
        ("not compared", [*report.dropped, *report.unseen]),
        ("failed", report.failures),
    ):
        for line in _lines(words, dropped):
            terminal.say(line)
    for note in report.notes:
        terminal.say(note)
    style = "green" if report.holds else "bold red"
    terminal.say(report.words(), style=style)


def _differences(report: Report) -> Table:
    headings = ("output", "", "absolute", "relative", "ULP", "of tolerance", "worst at")
    table = terminal.table(*headings)
    for column in table.columns[2:6]:
        column.justify = "right"
    for one in (*report.outputs, *report.sites):
        table.add_row(*map(Text, _cells(one)), style="" if one.holds else "red")
    return table


def _cells(one: Compared) -> tuple[str, ...]:
    found = one.difference
    numbers = (f"{number:.2g}" for number in (found.absolute, found.relative, found.ulp))
    return one.name, one.dtype, *numbers, f"{found.used:.2g}", _place(one)


def _place(one: Compared) -> str:
    place, apart = one.difference.place, one.difference.excused_overflows
    excused_overflows = f"; {apart} overflow in one of both only" if apart else ""
    if place is None or not one.difference.used:
        return excused_overflows.removeprefix("; ")
    at = "" if place.index is None else f"{list(place.index)}: "
    with_kernels = ", with the kernels" if "kernels" in one.runtime else ""
    values = f"{_short(place.original)} → {_short(place.rewritten)}"
    return f"{at}{values} ({one.case}{with_kernels}){excused_overflows}"


def _short(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _lines(words: str, dropped: Iterable[Dropped]) -> list[str]:
    found = list(dropped)
    lines = [f"{words}: {one.name}: {' '.join(one.why.split())}" for one in found[:MAX_SHOWN]]
    if len(found) > MAX_SHOWN:
        lines.append(f"{words}: {len(found) - MAX_SHOWN} more; --json lists them")
    return lines
