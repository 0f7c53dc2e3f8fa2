"""`gatewave lower`: a model for a runtime that cannot run it as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gatewave.cli.commands import comparing, graphs, targeting
from gatewave.cli.commands.comparing import (
    BUDGET,
    AtolOption,
    BudgetOption,
    InputsOption,
    RtolOption,
    UlpOption,
)
from gatewave.cli.commands.rewriting import JsonOption, ModelArgument, VerifyOption
from gatewave.cli.errors import needing


def lower(
    model: ModelArgument,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            help="A runtime, as onnxruntime, onnxruntime-1.31-cuda or openvino; `this` is the one "
            "installed, probed.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; MODEL.TARGET.onnx by default."),
    ] = None,
    verify: VerifyOption = True,
    inputs: InputsOption = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """Rewrite what the target cannot run, or gets wrong, into what it can; nothing else changes.

    Opset and file format are brought within its range. Operators that it lacks, or lacks in an
    element type, become ones that it has: ONNX's activations, whether one node or written out,
    contributed operators, and our own.

    The result is loaded in the target itself where that is installed: as the ONNX Runtime beside
    Gatewave, or by `gatewave runtimes install`. With --no-verify it is written even if the target
    refuses it; the status is 1 then, too.

    Example: `gatewave lower model.onnx --target onnxruntime-1.31 -o lowered.onnx`
    """
    with needing("export"):
        from gatewave.graphs.files import files
        from gatewave.graphs.rewrite.lower.lower import lower as lower_model
        from gatewave.graphs.targets.probed_target import is_installed
    loaded = graphs.read(model)
    written = output or model.with_suffix(f".{target}.onnx")
    report = None
    with targeting.target_named(target) as wanted:
        outcome = lower_model(loaded, wanted)
        loading = targeting.loading_of(wanted, loaded, source=model)
        found = targeting.assess(wanted, loaded, loading)
    if verify:
        targeting.require_loading(found)
        plan = comparing.plan(inputs, rtol, atol, ulp, budget)
        plan = replace(plan, native=is_installed(wanted))
        report = graphs.write_verified(
            loaded, written, source=model, changes=outcome.changes, plan=plan
        )
    else:
        files.write(loaded, written, source=model)
    graphs.say(written, outcome, report, assessment=found, as_json=as_json)
    if loading.refused:
        raise typer.Exit(1)
