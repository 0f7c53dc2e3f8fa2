"""Conversion of Torch tensors to NumPy arrays and back, for every element type."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from gatewave.graphs.processes.messages import Array

BITS = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.int8, ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: (torch.int8, ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: (torch.int8, ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: (torch.int8, ml_dtypes.float8_e5m2fnuz),
}
"""Dtypes that NumPy lacks, each with an integer of the same size and ml_dtypes' dtype."""

OF_KIND = {np.dtype(kind): dtype for dtype, (_, kind) in BITS.items()}


def array_of(value: Any) -> Array:
    """Return the array of a tensor or number; complex numbers become pairs, as in graphs."""
    if not isinstance(value, Tensor):
        return np.asarray(value)
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.dtype in BITS:
        bits, dtype = BITS[tensor.dtype]
        return tensor.contiguous().view(bits).numpy().view(dtype)
    return tensor.numpy()


def tensor_of(array: Array) -> Tensor:
    """Return a tensor with a copy of ``array``: Torch warns about arrays that are read-only."""
    copy = np.array(array, order="C")
    if copy.dtype not in OF_KIND:
        return torch.from_numpy(copy)
    bits = copy.view(f"i{copy.itemsize}")
    return torch.from_numpy(bits).view(OF_KIND[copy.dtype])
