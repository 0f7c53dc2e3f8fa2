"""`gatewave lower`: a model for a runtime that cannot run it as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from gatewave.cli import assessment, change_report, model_files, terminal
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
    VerifyOption,
    verification_plan,
)


def lower(
    model: ModelArgument,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            help="A runtime, such as onnxruntime, onnxruntime-1.31-cuda or openvino; `this` is the "
            "ONNX Runtime installed here, probed if its version has no table.",
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
    """Rewrite nodes that the target cannot run, or computes wrongly; other nodes stay.

    The opset and the file format are brought within the target's range. Operators that it lacks,
    or lacks in an element type, become operators that it has: ONNX's activations as one node or as
    several, contributed operators, and ours.

    The result is loaded in the target itself if that is installed: as the ONNX Runtime beside
    Gatewave, or by `gatewave runtimes install`. With `--no-verify` it is written even if the target
    refuses it; the exit status is then 1.

    Examples:

        gatewave lower model.onnx --target onnxruntime-1.31 -o lowered.onnx
        gatewave lower model.onnx --target tract --json
    """
    with needing("graphs"):
        from gatewave.graphs.rewrite.lower.lower import lower as lower_model
        from gatewave.graphs.targets.probed_target import is_installed
    plan = verification_plan(inputs, rtol, atol, ulp, budget)
    loaded = model_files.read(model)
    written = output or model.with_suffix(f".{target}.onnx")
    report = None
    with assessment.target_named(target) as wanted:
        with terminal.working("rewriting the model"):
            outcome = lower_model(loaded, wanted)
        loading = assessment.loading_of(wanted, loaded, source=model)
        found = assessment.assess(wanted, loaded, loading)
    if verify:
        assessment.require_loading(found)
        plan = replace(plan, native=is_installed(wanted))
        report = model_files.write_verified(
            loaded, written, source=model, changes=outcome.changes, plan=plan
        )
    else:
        model_files.write(loaded, written, source=model)
    change_report.say(written, outcome, report, assessment=found, as_json=as_json)
    if loading.refused:
        raise typer.Exit(1)
