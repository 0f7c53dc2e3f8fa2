"""`gatewave verify`: comparison of two models on sampled inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gatewave.cli.commands import comparing, output
from gatewave.cli.commands.comparing import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    RtolOption,
    UlpOption,
)
from gatewave.cli.commands.rewriting import JsonOption, ModelArgument
from gatewave.cli.errors import needing

if TYPE_CHECKING:
    from gatewave.graphs.verify.report import Compared, Dropped, Report

MAX_SHOWN = 3


def verify(
    original: ModelArgument,
    rewritten: ModelArgument,
    inputs: InputsOption = None,
    site: Annotated[
        list[str] | None, typer.Option(help="A value within both graphs, to compare as well.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated inputs.")] = 0,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which a run of a model is ended.")
    ] = 120.0,
    strict: Annotated[
        bool, typer.Option(help="Excuse no difference, not even at overflow.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run both models on generated inputs, and compare every output; exit with 1 if they differ.

    Shapes, ranges and special values are drawn from what the original takes. Neither file is
    changed, and a model that crashes or hangs ends only its own process.

    Example: `gatewave verify model.onnx fused.onnx --json`
    """
    with needing("export"):
        from gatewave.graphs.verify import verifier
    plan = replace(
        comparing.plan(inputs, rtol, atol, ulp, budget),
        sites=site or (),
        seed=seed,
        timeout=timeout,
        strict=strict,
    )
    with Console(stderr=True).status("running both models", spinner="dots"):
        report = verifier.verify(original, rewritten, plan)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        show(report)
    if not report.holds:
        raise typer.Exit(1)


def show(report: Report) -> None:
    """The report, for people."""
    for ran in report.ran:
        why = f" (not {ran.why})" if ran.why else ""
        output.say(f"{ran.model}: run by {ran.runtime}{why}")
    if report.outputs or report.sites:
        output.show(_differences(report))
    for words, dropped in (
        ("not compared", [*report.dropped, *report.unseen]),
        ("failed", report.failures),
    ):
        for line in _lines(words, dropped):
            output.say(line)
    for note in report.notes:
        output.say(note)
    style = "green" if report.holds else "bold red"
    output.say(report.words(), style=style)


def _differences(report: Report) -> Table:
    headings = ("output", "", "absolute", "relative", "ULP", "of tolerance", "worst at")
    table = output.table(*headings)
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
