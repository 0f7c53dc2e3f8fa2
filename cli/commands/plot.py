"""`gatewave plot`: a picture of an activation and its derivatives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gatewave.cli import terminal
from gatewave.cli.activations import activations_named
from gatewave.cli.errors import UsageError, needing
from gatewave.cli.options import JsonOption, ParamOption, parameters

if TYPE_CHECKING:
    from gatewave.models import Activation, Operator


def plot(
    activation: Annotated[str, typer.Argument(help="A name, or package.module:Class.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="An .svg or .png file; NAME.svg by default."),
    ] = None,
    param: ParamOption = None,
    span: Annotated[
        tuple[float, float] | None,
        typer.Option("--range", help="Least and greatest value of the inputs."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw an activation and its derivatives: curves, or contours for two inputs.

    Real parameters have their default values.

    Examples:

        gatewave plot sinc
        gatewave plot swiglu --param gate=linear --range -4 4 -o swiglu.png
    """
    with needing("export"), terminal.working("loading the activation"):
        from gatewave.export import plots
    (record,) = activations_named([activation])
    operator = _operator(record, parameters(param))
    path = output or Path(f"{record.stem(operator)}.svg")
    kind = path.suffix.removeprefix(".")
    if kind not in plots.KINDS:
        raise UsageError(f"{path}: expected a name that ends in .svg or .png")
    if span is not None:
        record = dataclasses.replace(record, plot_range=span)
    with terminal.working("drawing"):
        path.write_bytes(plots.render(plots.draw(record, operator), kind))
    if as_json:
        terminal.say_json({"written": str(path)})
    else:
        typer.echo(f"wrote {path}")


def _operator(record: Activation, params: dict[str, str | float]) -> Operator:
    """Return the operator that the words select; real parameters are drawn at their defaults."""
    words: dict[str, str | float] = {p.name: p.default for p in record.parameters if p.choices}
    for name, value in params.items():
        if name not in words:
            known = ", ".join(words) or "no parameters"
            raise UsageError(f"--param {name}: expected {known}")
        words[name] = value
    for operator in record.operators:
        if operator.choice == words:
            return operator
    choices = ", ".join(" ".join(operator.choice.values()) for operator in record.operators)
    raise UsageError(f"--param: expected one of {choices}")
