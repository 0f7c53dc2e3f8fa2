"""Torch modules of the gated linear unit and its variants."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gatewave.models.torch.modules import ActivationModule
from gatewave.models.torch.ops import rounded_once


class GLU(ActivationModule):
    """``a · σ(b)``; equal shapes, any floating dtype.

    Source: Dauphin et al. 2017, https://arxiv.org/abs/1612.08083.
    """

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * torch.sigmoid(b)


class Bilinear(ActivationModule):
    """``a · b``; equal shapes, any floating dtype.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202.
    """

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class ReGLU(ActivationModule):
    """``max(0, a) · b``; equal shapes, any floating dtype. The derivative at a = 0 is 0.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202.
    """

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.relu(a) * b


class GeGLU(ActivationModule):
    """``GELU(a) · b``; equal shapes, any floating dtype.

    Args:
        approximate: ``"none"``, with erf, or ``"tanh"``, as `torch.nn.GELU` has it.

    Raises:
        ValueError: ``approximate`` is another word.

    Source: Shazeer 2020, https://arxiv.org/abs/2002.05202; Hendrycks and Gimpel 2016,
    https://arxiv.org/abs/1606.08415, for both forms of GELU.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"approximate must be 'none' or 'tanh', not {approximate!r}")
        self.approximate = approximate

    @rounded_once
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if self.approximate == "tanh":
            return functional.gelu(a, approximate="tanh") * b
        # functional.gelu errs by 3.3e-7 · |a| in float32, which the record does not allow.
        gate: Tensor = torch.special.ndtr(a)
        return a * gate * b
