"""Torch module of the logistic sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor

from gatewave.models.torch.modules import ActivationModule
from gatewave.models.torch.ops import rounded_once


class Sigmoid(ActivationModule):
    """``1 / (1 + exp(-x))``; any shape, any floating dtype. 0 at -∞, 1 at +∞."""

    @rounded_once
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)
