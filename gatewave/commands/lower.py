"""`gatewave lower`: a model for a runtime that cannot run it as it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gatewave.commands.rewriting import JsonOption, ModelArgument, VerifyOption
from gatewave.errors import needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from export.rewrite.change import Change
    from export.rewrite.report import Report
    from export.targets import Target


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
    as_json: JsonOption = False,
) -> None:
    """Rewrite what the target cannot run, or gets wrong, into what it can; nothing else changes.

    Opset and file format are brought within its range; ONNX's Swish, SwiGLU, Mish, Gelu and
    HardSwish, and our own operators, become ones that it has, in forms that it fuses.

    Example: `gatewave lower model.onnx --target onnxruntime-1.31 -o lowered.onnx`
    """
    with needing("export"):
        from export.rewrite import files
        from export.rewrite.lower import lower as lower_model
    wanted = target_named(target)
    loaded = files.read(model)
    changes = lower_model(loaded, wanted)
    written = output or model.with_suffix(f".{target}.onnx")
    report = _write(loaded, written, model, changes) if verify else None
    if report is None:
        files.write(loaded, written, source=model)
    if as_json:
        typer.echo(json.dumps(_document(wanted, written, changes, report), indent=2))
    else:
        _show(wanted, written, changes, report)


def target_named(name: str) -> Target:
    """The target called ``name``; ``this`` is the installed ONNX Runtime, probed.

    Raises:
        TargetError: There is none.
        ExtraMissing: onnx is not installed.
    """
    with needing("export"):
        from export import probed_target, targets
    if name != "this":
        return targets.find(name)
    with Console(stderr=True).status("running tiny models", spinner="dots"):
        return probed_target.this()


def _write(loaded: ir.Model, path: Path, source: Path, changes: Sequence[Change]) -> Report:
    from export.rewrite.verified import write_verified

    # Values inside bodies are no outputs that a runtime could give.
    sites = [change.output for change in changes if change.output and not change.scope]
    with Console(stderr=True).status("running both models", spinner="dots"):
        return write_verified(loaded, path, source=source, sites=list(dict.fromkeys(sites)))


def _document(
    target: Target, written: Path, changes: Sequence[Change], report: Report | None
) -> dict[str, Any]:
    return {
        "written": str(written),
        "target": target.name,
        "changes": [asdict(change) for change in changes],
        "verified": None if report is None else report.as_dict(),
    }


def _show(target: Target, written: Path, changes: Sequence[Change], report: Report | None) -> None:
    if changes:
        table = Table("node", "change", box=None, pad_edge=False)
        for change in changes:
            place = ": ".join(word for word in (change.scope, change.node) if word)
            table.add_row(place or "the model", change.what)
        Console().print(table)
    proof = "not verified" if report is None else report.summary()
    typer.echo(f"{len(changes)} changes for {target.name}: wrote {written} ({proof})")
