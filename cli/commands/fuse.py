"""`gatewave fuse`: activations written in many nodes become one each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatewave.cli import change_report, model_files, terminal
from gatewave.cli.errors import UsageError, needing
from gatewave.cli.options import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    JsonOption,
    ModelArgument,
    RtolOption,
    UlpOption,
    VerifyOption,
    verification_plan,
    words,
)


def fuse(
    model: ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; MODEL.fused.onnx by default."),
    ] = None,
    to: Annotated[
        str, typer.Option(help="gatewave: our operators with their bodies; standard: ONNX's.")
    ] = "gatewave",
    kind: Annotated[
        str | None,
        typer.Option(help="Kinds, such as swish,swiglu-linear; by default all worth fusing."),
    ] = None,
    verify: VerifyOption = True,
    inputs: InputsOption = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """Replace activations written in many nodes by one operator each.

    A runtime that has our kernels runs the new nodes on them; any other runs the nodes' bodies.

    Examples:

        gatewave fuse model.onnx -o fused.onnx
        gatewave fuse model.onnx --to standard --kind swish
    """
    with needing("graphs"):
        from gatewave.graphs.recognition.kinds import ALIASES, KINDS
        from gatewave.graphs.rewrite.fuse import FUSED
        from gatewave.graphs.rewrite.fuse import fuse as fuse_model
    if to not in FUSED:
        raise UsageError(f"--to: expected {' or '.join(FUSED)}, got {to!r}")
    kinds = None if kind is None else words("--kind", kind, (*KINDS, *ALIASES))
    plan = verification_plan(inputs, rtol, atol, ulp, budget)
    loaded = model_files.read(model)
    with terminal.working("looking for activations"):
        outcome = fuse_model(loaded, to=to, kinds=kinds)
    written = output or model.with_suffix(".fused.onnx")
    report = None
    if verify:
        report = model_files.write_verified(
            loaded, written, source=model, changes=outcome.changes, plan=plan
        )
    else:
        model_files.write(loaded, written, source=model)
    change_report.say(written, outcome, report, as_json=as_json)
