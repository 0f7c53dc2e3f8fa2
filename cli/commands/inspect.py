"""`gatewave inspect`: the activations in a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gatewave.cli.commands import graphs, output, targeting
from gatewave.cli.commands.rewriting import JsonOption, ModelArgument
from gatewave.cli.errors import needing

if TYPE_CHECKING:
    import onnx_ir as ir

    from gatewave.cli.commands.targeting import Assessment
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
    """Show the activations of a model: kind, operators, location, and share of FLOPs.

    Example: `gatewave inspect model.onnx --target onnxruntime-1.31`
    """
    with needing("export"):
        from gatewave.graphs.rewrite.inspection import inspect as inspect_model
        from gatewave.graphs.rewrite.inspection import report
    loaded = graphs.read(model)
    found = None if target is None else _assessment(target, model, loaded)
    inspection = inspect_model(loaded)
    if as_json:
        document = report(inspection)
        if found is not None:
            document["target"] = found.document()
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        return
    show(inspection)
    if found is not None:
        for line in found.lines():
            output.say(line)
        output.say(found.summary(), style="green" if found.verdict == "runs" else "")


def _assessment(name: str, path: Path, model: ir.Model) -> Assessment:
    with targeting.target_named(name) as target:
        return targeting.assess(target, model, targeting.loading(target, path, model))


def show(inspection: Inspection) -> None:
    """Print tables for people."""
    from gatewave.graphs.rewrite.inspection import RULE

    opsets = ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in inspection.opsets.items())
    written_by = f", written by {inspection.producer}" if inspection.producer else ""
    output.say(f"IR version {inspection.ir_version}; opsets: {opsets}{written_by}")
    dtypes = ", ".join(f"{name} {count}" for name, count in inspection.dtypes.items())
    output.say(f"values by type: {dtypes or 'unknown'}")
    if inspection.sites:
        output.show(_counts(inspection))
        output.show(_sites(inspection))
    else:
        output.say("no activations found")
    for miss in inspection.near_misses:
        place = ": ".join(word for word in (miss.site.scope.name, miss.site.name) if word)
        output.say(f"near miss: {miss.site.kind} at {place}: {miss.reason}")
    if not inspection.sites:
        return
    output.say(RULE, style="dim")
    if inspection.open_sizes:
        output.say(f"{inspection.open_sizes} values have sizes that are not known", style="dim")


def _counts(inspection: Inspection) -> Table:
    table = output.table("activation", "written", "count", "share")
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
    table = output.table(*headings)
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
