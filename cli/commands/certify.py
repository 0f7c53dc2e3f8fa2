"""`gatewave certify`: results of runtimes compared with expected ones, as a document."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gatewave.cli import terminal
from gatewave.cli.activations import activations_named
from gatewave.cli.commands.runtimes import chosen
from gatewave.cli.errors import CommandError, UsageError, needing
from gatewave.cli.options import (
    INPUTS_HELP,
    AtolOption,
    JsonOption,
    RtolOption,
    UlpOption,
    arrays,
    words,
)

if TYPE_CHECKING:
    from gatewave.certificates.certification import CertificationPlan
    from gatewave.certificates.document import Cell, Certificate
    from gatewave.certificates.reproduction import Deviation
    from gatewave.certificates.runtimes.catalogue import Runtime


def certify(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(help="Activations, or models (*.onnx); all activations by default."),
    ] = None,
    runtimes: Annotated[
        str, typer.Option(help="Names separated by commas; or all; or installed.")
    ] = "installed",
    dtype: Annotated[
        str | None, typer.Option(help="Among float16, bfloat16, float32, float64; all by default.")
    ] = None,
    graph: Annotated[
        str | None, typer.Option(help="Among value, grad (with the value), vjp; all by default.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for certificates and their pages.")
    ] = Path("certified"),
    artifacts: Annotated[
        Path | None,
        typer.Option(
            help="Folder that `gatewave export` wrote. Certificates are written there, and its "
            "models name them, so that the service shows them."
        ),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="A certificate to make again and to compare.")
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(help=f"{INPUTS_HELP}. A model runs on these alone.")
    ] = None,
    rtol: RtolOption = None,
    atol: AtolOption = None,
    ulp: UlpOption = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a model's generated inputs.")] = 0,
    exact: Annotated[
        bool, typer.Option("--exact", help="Exit with 1 if any result is out of tolerance.")
    ] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Time limit in seconds for loading, and for each run.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Run activations or models on many runtimes, and write certificates of their results.

    Each runtime runs in an environment and a process of its own (`gatewave runtimes`), on the model
    that `gatewave lower` makes for it. Refusals, wrong results and crashes are entries. An
    activation is compared with its formula. A model is compared with a baseline: values on which
    onnx's evaluator and the installed ONNX Runtime agree. If they differ, the certificate names the
    node and has no baseline.

    With `--check`, a certificate is made again; the exit status is 1 if a result has changed.

    Examples:

        gatewave certify sinc --runtimes reference --dtype float32 -o certified
        gatewave certify --check certified/sinc.certificate.json
        gatewave certify model.onnx --runtimes installed --inputs real.npz --rtol 1e-3
    """
    with needing("graphs"):
        from gatewave.certificates import certificate_files, certification
        from gatewave.certificates.document import Allowed
        from gatewave.graphs.ops.signature import GRAPHS
        from gatewave.models import DTYPES
    if check is not None:
        if subjects:
            raise UsageError(
                "--check: expected no other arguments, since the certificate names its subject"
            )
        _checked(check, timeout, as_json=as_json)
        return
    _check_subjects(subjects or [], dtype=dtype, graph=graph, artifacts=artifacts)
    bounds = Allowed(rtol=rtol, atol=atol, ulp=ulp)
    _check_of_models(subjects or [], inputs, bounded=bounds != Allowed())
    plan = certification.CertificationPlan(
        runtimes=chosen([name.strip() for name in runtimes.split(",")]),
        graphs=words("--graph", graph, GRAPHS),
        dtypes=words("--dtype", dtype, DTYPES),
        seed=seed,
        seconds=timeout,
        tolerance=bounds,
        inputs=inputs,
        arrays={} if inputs is None else arrays(inputs),
    )
    found = []
    for certificate in _certificates(subjects or [], plan):
        path = certificate_files.write(certificate, artifacts or output)
        if artifacts:
            certificate_files.stamp(certificate, artifacts)
        found.append(certificate)
        if not as_json:
            _show(certificate)
            typer.echo(f"wrote {path}, and pages beside it")
    if as_json:
        terminal.say_json([json.loads(c.to_json()) for c in found])
    _conclude(found, exact=exact)


def _check_subjects(
    subjects: list[str], *, dtype: str | None, graph: str | None, artifacts: Path | None
) -> None:
    models = [subject for subject in subjects if subject.endswith(".onnx")]
    if models and artifacts:
        raise UsageError("--artifacts: expected activations, whose models it holds, got a model")
    for option, given in (("--dtype", dtype), ("--graph", graph)):
        if given and models:
            raise UsageError(f"{option}: is for activations only, and {models[0]} is a model")
    names = [Path(model).name for model in models]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two models are called {twice[0]}: one certificate would replace another")


def _check_of_models(subjects: list[str], inputs: Path | None, *, bounded: bool) -> None:
    """Check that options for models come with models only, and --inputs with one model."""
    others = [subject for subject in subjects if not subject.endswith(".onnx")]
    for option, given in (("--inputs", inputs is not None), ("--rtol, --atol, --ulp", bounded)):
        if given and (others or not subjects):
            what = others[0] if others else "all activations"
            raise UsageError(f"{option}: expected models (*.onnx), got {what}")
    if inputs is not None and len(subjects) > 1:
        raise UsageError(f"--inputs: expected one model, got {len(subjects)}")


def _conclude(found: list[Certificate], *, exact: bool) -> None:
    """Exit with 1 if no cell was certified, or if ``exact`` is required and a cell is not."""
    for certificate in found:
        if not any(True for _ in certificate.cells()):
            reasons = "; ".join(f"{row.title}: {row.why}" for row in certificate.rows)
            raise CommandError(f"{certificate.name}: nothing was run: {reasons}")
        if exact and not certificate.holds:
            raise typer.Exit(1)


def _certificates(subjects: list[str], plan: CertificationPlan) -> Iterator[Certificate]:
    from gatewave.certificates import certification

    models = [Path(subject) for subject in subjects if subject.endswith(".onnx")]
    names = [subject for subject in subjects if not subject.endswith(".onnx")]
    activations = activations_named(names) if names or not models else []
    for path in models:
        with _progress() as progress:
            certificate = certification.of_model(path, plan, progress)
        yield certificate
    for activation in activations:
        with _progress() as progress:
            certificate = certification.of_activation(activation, plan, progress)
        yield certificate


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Runtime, Cell], None]]:
    with terminal.working("starting") as status:
        yield lambda runtime, cell: status.update(f"{runtime.title}: {_place(cell)}")


def _show(certificate: Certificate) -> None:
    table = terminal.table(certificate.name, "verdicts", "")
    for row in certificate.rows:
        counts: dict[str, int] = {}
        for cell in row.cells:
            counts[cell.verdict] = counts.get(cell.verdict, 0) + 1
        said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        table.add_row(row.title, said, Text(_line(row.why)))
    terminal.show(table)
    if evidence := _evidence(certificate):
        terminal.say(f"evidence: {evidence}")
    for line in _problems(certificate):
        terminal.say(line)
    if certificate.kind == "model":
        for line in _of_baseline(certificate):
            terminal.say(line)


def _evidence(certificate: Certificate) -> str:
    """Return the levels of evidence, with the cells of all but the most frequent one.

    It is empty if no result was compared.
    """
    inputs: dict[str, list[int]] = {}
    places: dict[str, list[str]] = {}
    for _, cell in certificate.cells():
        if cell.evidence is not None:
            inputs.setdefault(cell.evidence.level, []).append(cell.evidence.inputs)
            places.setdefault(cell.evidence.level, []).append(_place(cell))
    *others, most = sorted(inputs, key=lambda level: len(inputs[level])) or [""]
    parts = [
        f"{level} for {', '.join(dict.fromkeys(places[level]))} ({_counted(inputs[level])})"
        for level in others
    ]
    if most:
        parts.append(f"{most}{' otherwise' if others else ''} ({_counted(inputs[most])})")
    return "; ".join(parts)


def _counted(counts: list[int]) -> str:
    """Return the least and the largest number of inputs, in words."""
    bounds = dict.fromkeys((min(counts), max(counts)))
    noun = "input" if max(counts) == 1 else "inputs"
    return f"{' to '.join(f'{count:,}' for count in bounds)} {noun}"


def _problems(certificate: Certificate) -> Iterator[str]:
    """Yield the first problem of each runtime; the pages list all of them."""
    for row in certificate.rows:
        wrong = [cell for cell in row.cells if cell.verdict not in ("exact", "no baseline")]
        if wrong:
            yield f"{row.title}: {_place(wrong[0])}: {_line(wrong[0].why)}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _of_baseline(certificate: Certificate) -> Iterator[str]:
    """Yield a model's baseline, and the outputs without one."""
    yield f"baseline: {certificate.truth}"
    for node in certificate.baseline.differing:
        yield f"no baseline after {node.words()}: {node.says}"
    for name, why in certificate.left_out.items():
        yield f"left out: {name}: {why}"


def _place(cell: Cell) -> str:
    return " ".join(word for word in (cell.subject, cell.graph, cell.dtype) if word)


def _checked(path: Path, timeout: float, *, as_json: bool) -> None:
    from gatewave.certificates import reproduction

    # Certificates of activations need Torch; those of models do not.
    with needing("export"), terminal.working("running everything again"):
        changes = reproduction.check(path, timeout)
    if as_json:
        terminal.say_json([change.as_dict() for change in changes])
    else:
        for change in changes:
            typer.echo(_sentence(change))
        typer.echo(f"{path}: {_verdict(changes)}")
    if any(change.matters for change in changes):
        raise typer.Exit(1)


def _sentence(change: Deviation) -> str:
    return f"{change.what}: was {change.before}, is {change.after}"


def _verdict(changes: list[Deviation]) -> str:
    if not changes:
        return "the same again"
    return "other results" if any(c.matters for c in changes) else "the same results"
