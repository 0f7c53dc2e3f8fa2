"""Forms of nodes that some targets get wrong, and the forms that replace them.

A target's file names its defects; each entry there has the evidence. A form is matched as the
runtime's optimiser or kernel sees it, node by node. Recognition is not used: it finds a function
in any spelling, and a runtime that fails on one spelling runs the others. It would also cost more
than the rest: for nudenet's 323 nodes, recognition takes 0.4 s of CPU time, and all of `lower`
for OpenVINO 0.2 s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from gatewave.graphs.rewrite.lower import float64_silu, naive_sinc, relu_clip
from gatewave.graphs.rewrite.lower.lowerings import Lowering
from gatewave.graphs.targets.entries import DefectName

Operands = Sequence[ir.Value | None]

Match = Callable[[ir.Node, ir.DataType | None, Collection[ir.Value]], Operands | None]
"""Takes a node, its element type, and the arguments of functions; returns the operands of the new
form if the node ends the form that goes wrong."""


@dataclass(frozen=True)
class DefectiveForm:
    """A form that goes wrong, and its replacement.

    Attributes:
        defect: Its name in the files of targets.
        match: Finds it.
        lowering: Draws the form that replaces it, on the operands that ``match`` returns.
        what: The change in one line.
        before_lowering: True if it must be replaced before its operators are lowered, since it
            could not be found in what they become.
    """

    defect: DefectName
    match: Match
    lowering: Lowering
    what: str
    before_lowering: bool = False


DEFECTIVE_FORMS: Sequence[DefectiveForm] = (
    DefectiveForm(
        "naive-sinc",
        naive_sinc.operands,
        naive_sinc.robust,
        "the form of Sinc that is right near 0",
        before_lowering=True,
    ),
    DefectiveForm(
        "relu-clip",
        relu_clip.operands,
        relu_clip.merged,
        "Clip of what Relu is given, with a min of at least 0",
    ),
    # Last: a Swish that the target lacks has then become a Sigmoid and a Mul.
    DefectiveForm(
        "float64-silu",
        float64_silu.operands,
        float64_silu.unfused,
        "-(-x · σ(αx)), which is not misfused",
    ),
)
