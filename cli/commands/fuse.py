"""`gatewave fuse`: activations written in many nodes become one each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gatewave.cli.commands import comparing, graphs
from gatewave.cli.commands.comparing import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    RtolOption,
    UlpOption,
)
from gatewave.cli.commands.parameters import words
from gatewave.cli.commands.rewriting import JsonOption, ModelArgument, VerifyOption
from gatewave.cli.errors import UsageError, needing


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
        str | None, typer.Option(help="Kinds, as swish,swiglu-linear; by default all worth fusing.")
    ] = None,
    verify: VerifyOption = True,
    inputs: InputsOption = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """Find activations that are written in many nodes, and replace each by one operator.

    Where native kernels are the new nodes run on them; elsewhere their bodies run.

    Example: `gatewave fuse model.onnx -o fused.onnx`
    """
    with needing("export"):
        from gatewave.graphs.files import files
        from gatewave.graphs.recognition.kinds import ALIASES, KINDS
        from gatewave.graphs.rewrite.fuse import FUSED
        from gatewave.graphs.rewrite.fuse import fuse as fuse_model
    if to not in FUSED:
        raise UsageError(f"--to: expected {' or '.join(FUSED)}, got {to!r}")
    kinds = None if kind is None else words("--kind", kind, (*KINDS, *ALIASES))
    loaded = graphs.read(model)
    outcome = fuse_model(loaded, to=to, kinds=kinds)
    written = output or model.with_suffix(".fused.onnx")
    report = None
    if verify:
        plan = comparing.plan(inputs, rtol, atol, ulp, budget)
        report = graphs.write_verified(
            loaded, written, source=model, changes=outcome.changes, plan=plan
        )
    else:
        files.write(loaded, written, source=model)
    graphs.say(written, outcome, report, as_json=as_json)
