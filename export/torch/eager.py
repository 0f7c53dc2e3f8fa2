"""Eager execution of a module on the arrays that runtimes take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gatewave.export.torch.binding import Bound
from gatewave.export.torch.state import ModuleState
from gatewave.graphs.processes.channel import Array

BITS = {
    torch.bfloat16: (torch.int16, ml_dtypes.bfloat16),
    torch.float8_e4m3fn: (torch.int8, ml_dtypes.float8_e4m3fn),
    torch.float8_e4m3fnuz: (torch.int8, ml_dtypes.float8_e4m3fnuz),
    torch.float8_e5m2: (torch.int8, ml_dtypes.float8_e5m2),
    torch.float8_e5m2fnuz: (torch.int8, ml_dtypes.float8_e5m2fnuz),
}
"""Dtypes that NumPy lacks, each with an integer of the same size and ml_dtypes' dtype."""


@dataclass(frozen=True)
class Eager:
    """A module, called eagerly; each call leaves its state as it was."""

    module: nn.Module
    bound: Bound
    state: ModuleState

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        """Return the module's result for tensors in the places of the examples."""
        copies = [
            tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in tensors
        ]
        args, kwargs = self.bound.filled(copies)
        with self.state.running():
            return self.module(*args, **kwargs)

    def outputs(self, tensors: Sequence[Tensor]) -> list[Array]:
        """Return the values that become outputs of a graph: flattened, without None."""
        leaves = pytree.tree_leaves(self(tensors))
        return [array_of(leaf) for leaf in leaves if leaf is not None]


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
