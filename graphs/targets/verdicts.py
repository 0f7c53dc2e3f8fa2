"""Verdicts of targets on nodes, and the runtimes that give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import onnx_ir as ir

State = Literal["runs", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of a target on a node.

    Attributes:
        state: ``unknown`` if it was not tried.
        why: The runtime's own reason, where it refuses and gave one.
    """

    state: State
    why: str = ""


@dataclass(frozen=True, slots=True)
class NodeQuery:
    """Operator and types of a node for which a verdict is wanted.

    Attributes:
        identifier: Its domain and its name.
        opset: The version of that domain.
        dtype: The element type that it computes in; None if that is not known.
        inputs: The element type of each input; empty where it is left out, ``?`` if not known.
        stated: The element type of the first output, where an attribute states it.
        attributes: Attributes that are numbers or words.
        moves: True if it moves numbers and does not compute.
    """

    identifier: tuple[str, str]
    opset: int
    dtype: str | None
    inputs: Sequence[str] = ()
    stated: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    moves: bool = False


RUNS = Verdict("runs")
REFUSED = Verdict("refused")
UNKNOWN = Verdict("unknown")


@dataclass(frozen=True, slots=True)
class Loading:
    """An attempt to load a whole model in the target itself.

    Attributes:
        by: The runtime and its version.
        refused: Its reason for not loading the model; empty if it did.
        missing: Why the target was not asked; empty if it was.
    """

    by: str = ""
    refused: str = ""
    missing: str = ""

    @property
    def loads(self) -> bool:
        return not self.refused and not self.missing


class Live(Protocol):
    """An installed runtime that a command can ask."""

    def verdict(self, model: bytes, op_type: str) -> Verdict:
        """Return the verdict on a model of one node."""

    def load(self, path: Path, model: ir.Model) -> Loading:
        """Load the model in ``path``; ``model`` gives its inputs and outputs."""

    def close(self) -> None:
        """End its process."""
