"""`gatewave export`: activations from Torch to certified ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from gatewave.cli import terminal
from gatewave.cli.activations import activations_named
from gatewave.cli.errors import CommandError, UsageError, needing
from gatewave.cli.options import JsonOption, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Progress

    from gatewave.export.artifacts import Artifact, Failure, Selection
    from gatewave.models import Activation

CERTIFYING = ("reference", "onnxruntime")
"""The runtimes that every installation with the extra ``export`` has."""


def export(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of our activations (all by default); package.module:name of an nn.Module, "
            "a function, an autograd.Function or an ExportedProgram; or a file written by "
            "torch.export.save."
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "artifacts"
    ),
    dtype: Annotated[
        str | None, typer.Option(help="Among float16, bfloat16, float32, float64; all by default.")
    ] = None,
    graph: Annotated[
        str | None, typer.Option(help="Among value, grad (with the value), vjp; all by default.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(help="function: one node with its body; decomposed: standard operators."),
    ] = None,
    rank: Annotated[
        str, typer.Option(help="Number of axes declared for tensors; `any` declares no number.")
    ] = "1",
    certify: Annotated[
        bool,
        typer.Option(
            help="Also write certificates for the reference evaluator and the installed ONNX "
            "Runtime; the models name them. `gatewave certify --artifacts` covers more runtimes."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export activations from Torch to ONNX, if they are within their tolerances.

    Without a name, all activations of Gatewave are exported. A graph that misses its tolerance is
    not written. The others are; the failures are listed, and the exit status is 1.

    Examples:

        gatewave export sinc --dtype float32 --graph value -o exported
        gatewave export acts:Mish --dtype float32 --graph value -o mine
    """
    with needing("export"):
        from gatewave.export import artifacts
        from gatewave.export.operators import FORMS
        from gatewave.graphs.errors import GatewaveError
        from gatewave.graphs.ops.signature import GRAPHS
        from gatewave.models import DTYPES
    selection = artifacts.Selection(
        dtypes=words("--dtype", dtype, DTYPES),
        graphs=words("--graph", graph, GRAPHS),
        forms=words("--form", form, FORMS),
        rank=_rank(rank),
    )
    if certify and (selection.forms != FORMS or selection.rank != 1):
        raise UsageError("--certify: certificates are of both forms, for tensors of one axis")
    activations = activations_named(targets or [])
    written: list[Artifact] = []
    failures: list[Failure] = []
    with _progress(quiet=as_json) as progress:
        total = sum(artifacts.expected_files(a, selection) for a in activations)
        task = progress.add_task("exporting", total=total)

        def advance(artifact: Artifact) -> None:
            written.append(artifact)
            progress.update(task, advance=1, description=artifact.name)

        try:
            artifacts.write(activations, output, selection, advance, failures.append)
            if certify:
                progress.update(task, description="certifying")
                _certify(_whole(activations, failures), output, selection)
        except (GatewaveError, OSError) as error:
            raise CommandError(str(error)) from error
    _tell(activations, selection, written, output, as_json=as_json)
    if failures:
        raise CommandError(_refusal(failures, selection, len(written)))


def _tell(
    activations: Sequence[Activation],
    selection: Selection,
    written: Sequence[Artifact],
    output: Path,
    *,
    as_json: bool,
) -> None:
    if as_json:
        terminal.say_json([_report(artifact, output) for artifact in written])
    elif written:
        typer.echo(f"wrote {len(written)} files to {output}, every graph within its tolerance")
        for line in _kinks(activations, selection):
            typer.echo(line)


def _whole(activations: Sequence[Activation], failures: Sequence[Failure]) -> list[Activation]:
    """Return the activations all of whose graphs were written: others get no certificate."""
    failed = {failure.stem for failure in failures}
    return [a for a in activations if failed.isdisjoint(a.stem(o) for o in a.operators)]


def _kinks(activations: Sequence[Activation], selection: Selection) -> Iterator[str]:
    """Yield sentences on kinks, where the written derivatives are autograd's choice."""
    from gatewave.export.accuracy import kinks, reference

    for activation in activations if {"grad", "vjp"}.intersection(selection.graphs) else ():
        for operator in activation.operators:
            found = reference.kinks(activation, operator)
            for line in kinks.in_words(activation.inputs[0], found):
                yield f"{activation.stem(operator)}: {line}"


def _refusal(failures: Sequence[Failure], selection: Selection, written: int) -> str:
    """Return the error: the failures, their reasons, and the options that select the rest."""
    count = "1 graph fails" if len(failures) == 1 else f"{len(failures)} graphs fail"
    lines = [
        f"{count}, and {written} files are written" if written else f"{count}: no file is written"
    ]
    for failure in failures:
        label = f"{failure.stem} {failure.graph} {failure.dtype}"
        lines.append(f"{label}: {failure.reason.removeprefix(f'{label}: ')}")
    ways = [
        f"{option} {','.join(rest)}"
        for option, chosen, bad in (
            ("--dtype", selection.dtypes, {failure.dtype for failure in failures}),
            ("--graph", selection.graphs, {failure.graph for failure in failures}),
        )
        if (rest := [word for word in chosen if word not in bad])
    ]
    if ways:
        lines.append(f"to export only the graphs that pass: {' or by '.join(ways)}")
    return "\n".join(lines)


def _certify(activations: Sequence[Activation], output: Path, selection: Selection) -> None:
    from gatewave.certificates import certificate_files, certification
    from gatewave.certificates.runtimes import catalogue

    plan = certification.CertificationPlan(
        runtimes=[catalogue.find(name) for name in CERTIFYING],
        graphs=selection.graphs,
        dtypes=selection.dtypes,
    )
    for activation in activations:
        certificate = certification.of_activation(activation, plan)
        certificate_files.write(certificate, output)
        certificate_files.stamp(certificate, output)


def _rank(text: str) -> int | None:
    if text == "any":
        return None
    if not text.isdecimal():
        raise UsageError(f"--rank: expected a whole number or 'any', got {text!r}")
    return int(text)


def _progress(*, quiet: bool) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )


def _report(artifact: Artifact, folder: Path) -> dict[str, Any]:
    errors = {
        name: {"ulp": m.ulp, "absolute": m.absolute, "share_of_tolerance": m.used}
        for name, m in artifact.measured.items()
    }
    return {"path": str(folder / artifact.name), "bytes": len(artifact.content), "errors": errors}
