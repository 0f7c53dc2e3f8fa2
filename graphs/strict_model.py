"""Base of the documents that are validated when they are read."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Immutable part of a document; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
