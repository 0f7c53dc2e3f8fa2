"""Torch module of both forms of SwiGLU."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gatewave.models.torch.modules import ActivationModule
from gatewave.models.torch.ops import rounded_once


class SwiGLU(ActivationModule):
    """``a·σ(a)·σ(b)``, or ``a·σ(αa)·b`` with ``gate="linear"``; equal shapes, any floating dtype.

    NaN at a = -∞, as in Torch: the limit is 0.

    Args:
        gate: Use of ``b``: through a sigmoid, or as it is.
        alpha: The slope of the linear form's sigmoid; the other form refuses it.

    Raises:
        ValueError: ``gate`` is another word, or ``alpha`` is set where there is none.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202, for the linear form.
    """

    def __init__(self, gate: Literal["sigmoid", "linear"] = "sigmoid", alpha: float = 1.0) -> None:
        super().__init__()
        if gate not in ("sigmoid", "linear"):
            raise ValueError(f"gate must be 'sigmoid' or 'linear', not {gate!r}")
        if gate == "sigmoid" and alpha != 1.0:
            raise ValueError("alpha belongs to gate='linear': a·σ(a)·σ(b) has none")
        self.gate = gate
        self.alpha = alpha

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.gate == "sigmoid":
            return a * torch.sigmoid(a) * torch.sigmoid(b)
        return a * torch.sigmoid(self.alpha * a) * b
