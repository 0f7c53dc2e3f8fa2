"""Torch's tensors as NumPy's arrays and back, bfloat16 too."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from gatewave.graphs.processes.channel import Array


def array_of(tensor: Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    found: Array = tensor.contiguous().numpy()
    return found


def tensor_of(array: Array) -> Tensor:
    whole = np.array(array, order="C")  # a copy: Torch wants to be able to write
    if whole.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(whole.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(whole)
