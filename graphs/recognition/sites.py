"""Activations in a model: their places, kinds and spellings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from gatewave.graphs.analysis.constants import plain
from gatewave.graphs.analysis.node_functions import CONTRIB
from gatewave.graphs.analysis.numpy_ops import FLOATS
from gatewave.graphs.analysis.scopes import Scope, scopes
from gatewave.graphs.analysis.shapes import Shapes, shapes
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.graphs.recognition.candidate import Candidate
from gatewave.graphs.recognition.candidates import candidates
from gatewave.graphs.recognition.channels import ParameterRange
from gatewave.graphs.recognition.expressions import ExpressionReader
from gatewave.graphs.recognition.layouts import layout


@dataclass(frozen=True, eq=False)
class Site:
    """One activation in a graph.

    Attributes:
        kind: A name of the catalogue.
        reals: Its real parameters; in float64 exactly as the graph computes with them.
        written: ``standard``: one ONNX operator; ``function``: a call of one of the model's own;
            ``operator``: one node of our domain, with nothing to say what it does; ``contrib``: an
            operator of ONNX Runtime's own; ``decomposed``: several nodes.
        inputs: The tensors that it is applied to.
        output: The tensor that it gives.
        nodes: The nodes that compute it, in order; a replacement removes them all.
        layout: How the inputs of a gated unit lie: ``separate``; ``packed halves, gate first``;
            ``interleaved, gate last``. Empty for one input.
        scope: The graph that it is in.
        dtype: The element type of the inputs and the output, where it is known.
        parameters: Real parameters that are scalar inputs of the model, with ``reals`` as defaults.
        nan_at_zero: True if it gives NaN at 0, where the activation is finite.
        misfit: The reason why types or shapes make it another function: then it is a near miss.
        doubt: The reason why its output may gain axes, so that it cannot be replaced.
        biases: Tensors that are first added to inputs, by input.
        ranges: Ranges of real parameters that differ between channels and are not in ``reals``.
    """

    kind: str
    reals: Mapping[str, float]
    written: str
    inputs: tuple[ir.Value, ...]
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    layout: str
    scope: Scope
    dtype: ir.DataType | None = None
    parameters: Mapping[str, ir.Value] = field(default_factory=dict)
    nan_at_zero: bool = False
    misfit: str = ""
    doubt: str = ""
    biases: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    ranges: Mapping[str, ParameterRange] = field(default_factory=dict)

    @property
    def root(self) -> ir.Node:
        return self.nodes[-1]

    @property
    def name(self) -> str:
        """Name of its last node, or of its output."""
        return self.root.name or self.output.name or ""


@dataclass(frozen=True, eq=False)
class NearMiss:
    """Nodes that compute an activation but for something that forbids to replace them."""

    site: Site
    reason: str


@dataclass(frozen=True, eq=False)
class Survey:
    """All activations found, and the known shapes and types of values.

    Attributes:
        readers: Readers of the graphs that were searched.
    """

    sites: list[Site]
    near_misses: list[NearMiss]
    shapes: Shapes
    readers: list[tuple[Scope, ExpressionReader]] = field(default_factory=list)


def sites(model: ir.Model) -> list[Site]:
    """The activations of ``model``, scope by scope, in the order of the graphs."""
    return survey(model).sites


NAN_AT_ZERO = "NaN at zero: 0/0 is not guarded, as in a product in place of a Where"

Refusal = Callable[[Site, Shapes], str | None]
"""Return the reason why a site is not wanted; empty if not worth a report, None if wanted."""


def survey(model: ir.Model, refusal: Refusal = lambda _site, _shapes: None) -> Survey:
    """The activations of ``model``, and those that cannot be replaced, and why.

    Args:
        model: Stays as it is.
        refusal: Refuses sites; smaller ones are searched in place of a refused one: Swish alone
            where SwiGLU is not wanted.
    """
    known = shapes(model)
    found: list[Site] = []
    missed: list[NearMiss] = []
    readers: list[tuple[Scope, ExpressionReader]] = []
    for scope in scopes(model):
        # Bodies of our own operators are found at their calls.
        if not scope.name.startswith(f"function {DOMAIN}::"):
            readers.append((scope, ExpressionReader.of(scope.graph, model.functions)))
            chosen, leaking = _chosen(*readers[-1], model, known, refusal)
            found += chosen
            missed += leaking
    calls = {site.root.op_identifier() for site in found if site.written == "function"}
    names = {f"function {domain}::{name}{':' * bool(o)}{o}" for domain, name, o in calls}

    def inside_a_found_one(scope: Scope) -> bool:
        return any(scope.name == n or scope.name.startswith(f"{n}/") for n in names)

    return Survey(
        [site for site in found if not inside_a_found_one(site.scope)],
        [miss for miss in missed if not inside_a_found_one(miss.site.scope)],
        known,
        [(scope, reader) for scope, reader in readers if not inside_a_found_one(scope)],
    )


def _chosen(
    scope: Scope, reader: ExpressionReader, model: ir.Model, known: Shapes, refusal: Refusal
) -> tuple[list[Site], list[NearMiss]]:
    """Return the best sites that can be replaced together, and the rejected ones.

    A site is replaceable if only replaced sites use its inner values. Rejected sites may make other
    sites unreplaceable, so the choice is repeated until it no longer changes.
    """
    at_root = {
        root: [_site(candidate, scope, model, known) for candidate in found]
        for root in reversed(reader.order)
        if (found := list(candidates(root, reader, known)))
    }
    fallen = {
        site: reason
        for site in itertools.chain.from_iterable(at_root.values())
        if (reason := _unfit(site, refusal, known)) is not None
    }
    # A site that falls may have been the only user of another one's inner value, or the reason why
    # a smaller site was not chosen. Each pass rejects at least one site, so the loop ends.
    while True:
        best = _best(at_root, fallen)
        replaced = set(itertools.chain.from_iterable(site.nodes for site in best))
        leaking = {site: leak for site in best if (leak := _leak(site, replaced))}
        if not leaking:
            break
        fallen |= leaking
    misses: dict[ir.Node, NearMiss] = {}
    everywhere = [*itertools.chain.from_iterable(reversed(at_root.values()))]
    parts = {node for site in everywhere for node in site.nodes[:-1]}
    for site in everywhere:
        if fallen.get(site) and site.root not in (
            parts | replaced if site.nan_at_zero else replaced
        ):
            misses.setdefault(site.root, NearMiss(site, fallen[site]))
    misses |= {site.root: NearMiss(site, site.doubt) for site in best if site.doubt}
    return best[::-1], list(misses.values())


def _unfit(site: Site, refusal: Refusal, known: Shapes) -> str | None:
    """Return why the site is rejected; empty if that need not be reported; None if it is valid."""
    refused = refusal(site, known)
    if site.nan_at_zero and not site.misfit:
        return NAN_AT_ZERO
    if site.misfit:
        return "" if refused == "" or _is_no_near_miss(site) else site.misfit
    return refused


def _is_no_near_miss(site: Site) -> bool:
    """Return true for broadcast gates, which are channel attention, and for integers."""
    return len(site.inputs) > 1 or (site.dtype is not None and site.dtype not in FLOATS)


def _best(at_root: Mapping[ir.Node, Sequence[Site]], fallen: Mapping[Site, str]) -> list[Site]:
    """The first of each root that is not part of a larger one; the graph's last root first."""
    best: list[Site] = []
    inside: set[ir.Node] = set()
    for root, found in at_root.items():
        standing = next((site for site in found if site not in fallen), None)
        if standing is not None and root not in inside:
            best.append(standing)
            inside.update(standing.nodes[:-1])
    return best


def _leak(site: Site, replaced: set[ir.Node]) -> str:
    """Return the reason why the inner nodes cannot be removed; empty if they can."""
    for node in site.nodes[:-1]:
        for value in node.outputs:
            if value.is_graph_output():
                return f"{value.name}, inside it, is an output of the graph"
            for user in value.consumers():
                if user not in replaced:
                    return f"{value.name}, inside it, is used by {user.name or user.op_type} too"
    return ""


def _site(candidate: Candidate, scope: Scope, model: ir.Model, known: Shapes) -> Site:
    return Site(
        kind=candidate.kind,
        reals=_reals(candidate, known.dtype(candidate.output)),
        written=_written(candidate.nodes, model),
        inputs=candidate.inputs,
        output=candidate.output,
        nodes=candidate.nodes,
        layout=layout(candidate.kind, candidate.inputs, known),
        scope=scope,
        dtype=known.dtype(candidate.output),
        parameters=candidate.parameters,
        nan_at_zero=candidate.nan_at_zero,
        misfit=candidate.misfit,
        doubt=candidate.doubt,
        biases=candidate.biases,
        ranges=candidate.ranges,
    )


def _reals(candidate: Candidate, dtype: ir.DataType | None) -> Mapping[str, float]:
    """Return the intended decimals; in float64, which distinguishes them, the actual numbers.

    There 1.702, as an attribute or cast from float32, is 1.70200002193.
    """
    if dtype == ir.DataType.DOUBLE:
        return candidate.reals
    return {name: plain(real) for name, real in candidate.reals.items()}


def _written(nodes: Sequence[ir.Node], model: ir.Model) -> str:
    if len(nodes) > 1:
        return "decomposed"
    (node,) = nodes
    if node.op_identifier() in model.functions:
        return "function"
    return {"": "standard", DOMAIN: "operator", CONTRIB: "contrib"}.get(node.domain, "decomposed")
