"""Level of evidence for a statement that two functions compute the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gatewave.graphs.strict_model import StrictModel

Level = Literal["sampled", "exhaustive", "composed"]
"""Levels of evidence: some inputs; every value of the element type; or a gated unit whose factors
were each compared exhaustively and are joined by one IEEE multiplication. Only the last two may be
called proven."""


class Evidence(StrictModel):
    """Inputs on which results were compared.

    Attributes:
        level: Level of evidence.
        inputs: Number of inputs that were compared.
        drawn: Origin of the inputs.
    """

    level: Level
    inputs: Annotated[int, Field(ge=1)]
    drawn: str

    def words(self) -> str:
        """Describe the evidence in a line."""
        noun = "input" if self.inputs == 1 else "inputs"
        return f"{self.level}: {self.inputs:,} {noun}, {self.drawn}"
