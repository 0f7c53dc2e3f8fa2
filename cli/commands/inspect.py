"""`gatewave inspect`: the activations in a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gatewave.cli import assessment, model_files, terminal
from gatewave.cli.errors import needing
from gatewave.cli.options import JsonOption, ModelArgument

if TYPE_CHECKING:
    import onnx_ir as ir
    from rich.table import Table

    from gatewave.cli.assessment import Assessment
    from gatewave.graphs.recognition.sites import Site
    from gatewave.graphs.rewrite.inspection import Inspection


def inspect(
    model: ModelArgument,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", help="Also list what this runtime does not run, and why."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List a model's activations: kind, operators, location, share of FLOPs.

    Near misses are listed with the reason. With `--target`, so are the nodes that the runtime does
    not run.

    Examples:

        gatewave inspect model.onnx
        gatewave inspect model.onnx --target onnxruntime-1.31
    """
    with needing("graphs"):
        from gatewave.graphs.analysis.inference_client import INFERENCE

        if model.is_file():
            INFERENCE.launch()  # its worker imports onnx during the imports that follow here
        from gatewave.graphs.rewrite.inspection import inspect as inspect_model
        from gatewave.graphs.rewrite.inspection import report
    loaded = model_files.read(model)
    found = None if target is None else _assessment(target, model, loaded)
    with terminal.working("looking for activations"):
        inspection = inspect_model(loaded)
    if as_json:
        document = report(inspection)
        if found is not None:
            document["target"] = found.document()
        terminal.say_json(document)
        return
    _show(inspection)
    if found is not None:
        for line in found.lines():
            terminal.say(line)
        terminal.say(found.summary(), style="green" if found.verdict == "runs" else "")


def _assessment(name: str, path: Path, model: ir.Model) -> Assessment:
    with assessment.target_named(name) as target:
        return assessment.assess(target, model, assessment.loading(target, path, model))


def _show(inspection: Inspection) -> None:
    from gatewave.graphs.rewrite.inspection import RULE

    opsets = ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in inspection.opsets.items())
    written_by = f", written by {inspection.producer}" if inspection.producer else ""
    terminal.say(f"IR version {inspection.ir_version}; opsets: {opsets}{written_by}")
    dtypes = ", ".join(f"{name} {count}" for name, count in inspection.dtypes.items())
    terminal.say(f"values by type: {dtypes or 'unknown'}")
    if inspection.sites:
        terminal.show(_counts(inspection))
        terminal.show(_sites(inspection))
    else:
        terminal.say("no activations found")
    for miss in inspection.near_misses:
        place = ": ".join(word for word in (miss.site.scope.name, miss.site.name) if word)
        terminal.say(f"near miss: {miss.site.kind} at {place}: {miss.reason}")
    if not inspection.sites:
        return
    terminal.say(RULE, style="dim")
    if inspection.open_sizes:
        terminal.say(f"{inspection.open_sizes} values have sizes that are not known", style="dim")


def _counts(inspection: Inspection) -> Table:
    table = terminal.table("activation", "written", "count", "share")
    for (kind, written), count in sorted(inspection.counts().items()):
        share = sum(
            inspection.shares.get(site, 0.0)
            for site in inspection.sites
            if (site.kind, site.written) == (kind, written)
        )
        table.add_row(kind, written, str(count), f"{share:.2%}")
    return table


def _parameters(site: Site) -> Iterator[str]:
    for name, real in site.reals.items():
        yield f"{name}={real:g}"
    for name, one in site.ranges.items():
        yield f"{name}={one.least:g}…{one.greatest:g} in {one.count} channels"


def _sites(inspection: Inspection) -> Table:
    headings = ("node", "activation", "parameters", "operators", "layout", "type", "share")
    table = terminal.table(*headings)
    for site in inspection.sites:
        cells = (
            f"{site.scope.name}: {site.name}" if site.scope.name else site.name,
            site.kind,
            ", ".join(_parameters(site)),
            " ".join(node.op_type for node in site.nodes),
            site.layout,
            "" if site.dtype is None else site.dtype.name,
            f"{inspection.shares.get(site, 0.0):.2%}",
        )
        table.add_row(*map(Text, cells))
    return table
