"""Torch module of Swish."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewave.models.torch.modules import ActivationModule
from gatewave.models.torch.ops import rounded_once


class Swish(ActivationModule):
    """``x · σ(αx)``; any shape, any floating dtype. NaN at -∞, as in Torch: the limit is 0.

    Args:
        alpha: The slope of the gate's sigmoid.

    Source: Ramachandran et al. 2017, https://arxiv.org/abs/1710.05941; ONNX ``Swish``-24.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    @rounded_once
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.alpha * x)
