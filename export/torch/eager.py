"""Eager execution of a module on the arrays that runtimes take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gatewave.export.torch.arrays import array_of
from gatewave.export.torch.binding import Bound
from gatewave.export.torch.state import ModuleState
from gatewave.graphs.processes.messages import Array


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
