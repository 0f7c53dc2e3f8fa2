"""`gatewave inspect`: the activations in a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from gatewave.commands import graphs
from gatewave.commands.rewriting import JsonOption, ModelArgument
from gatewave.errors import needing

if TYPE_CHECKING:
    from export.rewrite.inspection import Inspection
    from export.rewrite.sites import Site


def inspect(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show a model's activations: which, how written, where, and their share of its computing.

    Example: `gatewave inspect model.onnx --json`
    """
    with needing("export"):
        from export.rewrite.inspection import inspect as inspect_model
        from export.rewrite.inspection import report
    inspection = inspect_model(graphs.load(model))
    if as_json:
        typer.echo(json.dumps(report(inspection), indent=2, ensure_ascii=False))
    else:
        show(inspection)


def show(inspection: Inspection, trouble: Callable[[Site], str] | None = None) -> None:
    """Print tables for people.

    Args:
        inspection: What was found.
        trouble: For a target: why it cannot run an activation; empty if it can.
    """
    from export.rewrite.inspection import RULE

    console = Console()
    opsets = ", ".join(f"{domain or 'ai.onnx'} {v}" for domain, v in inspection.opsets.items())
    written_by = f", written by {inspection.producer}" if inspection.producer else ""
    console.print(f"IR version {inspection.ir_version}; opsets: {opsets}{written_by}")
    dtypes = ", ".join(f"{name} {count}" for name, count in inspection.dtypes.items())
    console.print(f"values by type: {dtypes or 'unknown'}")
    if not inspection.sites:
        console.print("no activations found")
        return
    console.print(_counts(inspection))
    console.print(_sites(inspection, trouble))
    for miss in inspection.near_misses:
        place = miss.site.root.name or miss.site.output.name
        console.print(f"{miss.site.kind} at {place} is held open: {miss.reason}", markup=False)
    console.print(RULE, style="dim")
    if inspection.open_sizes:
        console.print(f"{inspection.open_sizes} values have sizes that are not known", style="dim")


def _counts(inspection: Inspection) -> Table:
    table = Table("activation", "written", "count", "share", box=None, pad_edge=False)
    for (kind, written), count in sorted(inspection.counts().items()):
        share = sum(
            inspection.shares.get(site, 0.0)
            for site in inspection.sites
            if (site.kind, site.written) == (kind, written)
        )
        table.add_row(kind, written, str(count), f"{share:.2%}")
    return table


def _sites(inspection: Inspection, trouble: Callable[[Site], str] | None) -> Table:
    header = ["node", "activation", "parameters", "operators", "layout", "type", "share"]
    table = Table(box=None, pad_edge=False)
    for name in (*header, *(["on the target"] if trouble else [])):
        table.add_column(name, overflow="fold")
    for site in inspection.sites:
        place = site.root.name or site.output.name or ""
        table.add_row(
            f"{site.scope.name}: {place}" if site.scope.name else place,
            site.kind,
            ", ".join(f"{name}={real:g}" for name, real in site.reals.items()),
            " ".join(node.op_type for node in site.nodes),
            site.layout,
            "" if site.dtype is None else site.dtype.name,
            f"{inspection.shares.get(site, 0.0):.2%}",
            *([trouble(site) or "runs"] if trouble else []),
        )
    return table
