"""Measurements of one graph: recognised and fused activations, verification, and time."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort

from benchmarks.graphs.production import Graph
from benchmarks.kernels.runtime import session
from benchmarks.timing import turns
from gatewave.graphs.files import files
from gatewave.graphs.recognition.sites import sites
from gatewave.graphs.rewrite.fuse import FUSED, LEFT, fuse
from gatewave.graphs.rewrite.outcome import Change
from gatewave.graphs.verify.report import Report
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verified_files import write_verified

OWN = "ONNX Runtime's own fusion"
UNFUSED = "no fusion"
PLAIN = "fused"
KERNELS = "fused, with kernels"
REGARDLESS = "fused regardless, with kernels"

ITS_FUSIONS = ("QuickGeluFusion",)
"""ONNX Runtime's own fusion of ``x·σ(αx)`` to one node."""


@dataclass(frozen=True)
class Measured:
    """Row of the table for one graph.

    Attributes:
        name: Name of the graph.
        found: Number of activations of each kind.
        fused: Number of each that were fused.
        left: Number of each that were left to ONNX Runtime.
        difference: The largest difference of an output, in words.
        samples: Seconds per call, turn by turn; of the original only, without a fusion.
    """

    name: str
    found: Counter[str]
    fused: Counter[str]
    left: Counter[str]
    difference: str = "–"
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)


def measured(graph: Graph, scratch: Path, library: Path, count: int) -> Measured:
    """Fuse the graph into the file ``scratch``, verify it, and time it in ``count`` turns.

    Raises:
        VerificationError: The fused graph differs.
    """
    model = files.read(graph.path)
    found = Counter(site.kind for site in sites(model))
    outcome = fuse(model)
    changes = outcome.changes
    fused = Counter(change.kind for change in changes)
    left = Counter(one.kind for one in outcome.skipped if one.reason == LEFT)
    contestants = {
        OWN: session(str(graph.path)),
        UNFUSED: session(str(graph.path), None, ITS_FUSIONS),
    }
    difference = "–"
    if changes:
        difference = _verified(model, changes, scratch, graph, library)
        contestants |= {PLAIN: session(str(scratch)), KERNELS: session(str(scratch), library)}
    if left:
        everything = files.read(graph.path)
        changes = fuse(everything, kinds=FUSED["gatewave"]).changes
        difference = _verified(everything, changes, scratch, graph, library)
        contestants[REGARDLESS] = session(str(scratch), library)
    calls = {name: _call(opened, graph) for name, opened in contestants.items()}
    return Measured(graph.name, found, fused, left, difference, turns(calls, count))


def _verified(
    model: ir.Model, changes: Sequence[Change], scratch: Path, graph: Graph, library: Path
) -> str:
    """Verify and write the model; return the largest difference."""
    plan = VerificationPlan(inputs=graph.inputs, kernels=library, sites=[c.output for c in changes])
    return _words(write_verified(model, scratch, source=graph.path, plan=plan))


def _call(opened: ort.InferenceSession, graph: Graph) -> Callable[[], None]:
    """Return a call with bound inputs. Outputs are allocated, as in normal use."""
    binding = opened.io_binding()
    for name, array in graph.inputs.items():
        binding.bind_cpu_input(name, array)
    for output in opened.get_outputs():
        binding.bind_output(output.name)
    return functools.partial(opened.run_with_iobinding, binding)


def _words(report: Report) -> str:
    largest = max(one.difference.absolute for one in report.outputs)
    used = max(one.difference.used for one in report.outputs)
    return f"{largest:.0e}, {used:.1%}"
