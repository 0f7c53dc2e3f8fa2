"""Possible site of an activation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from gatewave.graphs.analysis.constants import Constant
from gatewave.graphs.recognition.channels import ParameterRange


@dataclass(frozen=True, eq=False)
class Candidate:
    """A possible site; its fields are those of a `Site`.

    Attributes:
        constants: The numbers inside.
        inside: The nodes that compute with numbers; other nodes make shapes of constants.
        misfit: The reason why types or shapes make it another function.
        doubt: The reason why its output may have more axes than its input.
        biases: Tensors that are first added to inputs.
        ranges: Ranges of real parameters that differ between channels.
    """

    kind: str
    reals: Mapping[str, float]
    inputs: tuple[ir.Value, ...]
    output: ir.Value
    nodes: tuple[ir.Node, ...]
    parameters: Mapping[str, ir.Value] = field(default_factory=dict)
    constants: tuple[Constant, ...] = ()
    nan_at_zero: bool = False
    inside: Collection[ir.Node] = ()
    misfit: str = ""
    doubt: str = ""
    biases: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    ranges: Mapping[str, ParameterRange] = field(default_factory=dict)
