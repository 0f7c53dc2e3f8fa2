"""Torch module of sinc."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gatewave.models import sinc
from gatewave.models.torch.modules import ActivationModule
from gatewave.models.torch.ops import rounded_once, torch_ops


class Sinc(ActivationModule):
    r"""``sin(πx) / (πx)``, and 1 at 0; any shape, any floating dtype.

    Exactly 0 at every other integer, by reducing the range to ``r = x - round(x)`` before the sine
    is taken, and 0, its limit, at ±∞. ``torch.sinc`` answers about 1e-8 at integers, and NaN at ±∞.

    Source: https://numpy.org/doc/stable/reference/generated/numpy.sinc.html, for the convention.
    """

    @rounded_once
    def forward(self, x: Tensor) -> Tensor:
        # The series is for autograd: differentiating the quotient cancels near 0, at every order.
        op = torch_ops(x)
        distance = torch.abs(x)
        near = distance < sinc.SERIES_RADIUS
        sign, angle = sinc.reduced(op, distance)
        closed = sign * torch.sin(angle) / (math.pi * torch.where(near, 1.0, distance))
        return torch.where(near, sinc.even_series(op, torch.where(near, x, 0.0)), closed)
