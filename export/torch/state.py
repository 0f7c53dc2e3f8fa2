"""Preservation of a module's state while the module is traced and run.

Tracing calls ``forward``, which may set attributes, fill caches and count in buffers, and would
leave Torch's fake tensors there. Running the module also draws random numbers.
"""

from __future__ import annotations

import contextlib
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEPTH = 6
"""Depth to which containers and objects are searched for values that a forward may change."""

OPAQUE = (nn.Module, type, ModuleType, FunctionType, MethodType, str, bytes, int, float, complex)
"""Values that are not looked into; the parts of a module are searched by themselves."""


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """While open, all parts of ``module`` are in evaluation mode.

    The flags are set directly: ``eval()`` and ``train()`` may be overridden, for example to merge
    weights, and cannot be called on the module of an exported program.
    """
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextlib.contextmanager
def preserved(module: nn.Module, examples: Iterable[Tensor] = ()) -> Iterator[ModuleState]:
    """While open, ``module`` may change; afterwards it and the random numbers are as they were."""
    state = ModuleState(module, examples)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - forward may draw it
    default = torch.get_default_dtype()
    try:
        with (
            torch.random.fork_rng(state.cuda_devices()),
            torch.set_grad_enabled(torch.is_grad_enabled()),
        ):
            yield state
    finally:
        torch.set_default_dtype(default)
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        state.restore()


class ModuleState:
    """Snapshot of a module: attributes, containers, objects, hooks and tensors.

    The contents of tensors are copied when they are first written to, and only while the module is
    `running`, so that large weights need no second copy.
    """

    def __init__(self, module: nn.Module, examples: Iterable[Tensor] = ()) -> None:
        self._contents: dict[int, tuple[Any, list[Any]]] = {}
        self._tensors: dict[int, _SavedTensor] = {}
        for part in module.modules():
            self._add(vars(part))
        # A ScriptModule keeps these outside its attributes.
        for tensor in (*module.parameters(), *module.buffers(), *examples):
            self._add(tensor)
        self._on_write = _CopyOnWrite(saved.data for saved in self._tensors.values())

    def cuda_devices(self) -> list[int]:
        """The CUDA devices that hold tensors of the module."""
        devices = {saved.tensor.device for saved in self._tensors.values()}
        return sorted(device.index or 0 for device in devices if device.type == "cuda")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While open, the module runs eagerly; afterwards its state is restored."""
        try:
            with torch.compiler.set_stance("force_eager"), self._on_write:
                yield
        finally:
            self.restore()

    def restore(self) -> None:
        """Restore the module to the snapshot."""
        for container, items in self._contents.values():
            if not _same(_items(container), items):
                _refill(container, items)
        for saved in self._tensors.values():
            saved.restore()
        self._on_write.restore()

    def _add(self, value: Any, depth: int = DEPTH) -> None:
        if isinstance(value, Tensor):
            if id(value) not in self._tensors:
                self._tensors[id(value)] = _SavedTensor(value)
            return
        if id(value) in self._contents or isinstance(value, OPAQUE) or not depth:
            return
        if not isinstance(value, dict | list | set | deque | tuple | frozenset):
            value = getattr(value, "__dict__", None)
            if not isinstance(value, dict) or id(value) in self._contents:
                return
        items = _items(value)
        if not isinstance(value, tuple | frozenset):
            self._contents[id(value)] = value, items
        for item in items:
            self._add(item[1] if isinstance(value, dict) else item, depth - 1)


def _items(container: Any) -> list[Any]:
    return list(container.items() if isinstance(container, dict) else container)


def _same(found: list[Any], saved: list[Any]) -> bool:
    """Return true if both hold the identical objects; pairs are items of a dictionary."""
    return len(found) == len(saved) and all(
        one is other
        or (
            isinstance(one, tuple)
            and isinstance(other, tuple)
            and len(one) == len(other)
            and all(map(lambda a, b: a is b, one, other))
        )
        for one, other in zip(found, saved, strict=True)
    )


def _refill(container: Any, items: list[Any]) -> None:
    container.clear()
    if isinstance(container, dict | set):
        container.update(items)
    else:
        container.extend(items)


class _SavedTensor:
    """A tensor with its storage and its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.data = tensor.data
        self._requires_grad = tensor.requires_grad
        self._grad = tensor.grad if tensor.is_leaf else None

    def restore(self) -> None:
        """Undo ``tensor.data = …``, ``requires_grad_()`` and ``backward()``."""
        tensor, data = self.tensor, self.data
        if tensor.data_ptr() != data.data_ptr() or tensor.shape != data.shape:
            tensor.data = data
        if not tensor.is_leaf:
            return
        if tensor.requires_grad != self._requires_grad:
            tensor.requires_grad_(self._requires_grad)
        if tensor.grad is not self._grad:
            tensor.grad = self._grad


class _CopyOnWrite(TorchDispatchMode):  # type: ignore[no-untyped-call]  # by Torch
    """Copies of tensors that an operator is about to write to."""

    supports_higher_order_operators = True

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._watched: dict[int, list[Tensor]] = {}
        self._copies: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for tensor in tensors:
            self._watched.setdefault(_storage(tensor), []).append(tensor)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _written(func, args, kwargs):
            key = _storage(tensor)
            if key in self._watched and key not in self._copies:
                self._copies[key] = [(t, t.clone()) for t in self._watched[key]]
        return func(*args, **kwargs)

    def restore(self) -> None:
        """Write back the overwritten data, by ``data``, which autograd does not check."""
        for pairs in self._copies.values():
            for tensor, copy in pairs:
                tensor.copy_(copy)
        self._copies.clear()


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without a storage
        return 0


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors that ``func`` writes to."""
    # Calls inside torch.cond and similar operators come here on their own.
    if not isinstance(func, OpOverload):
        return
    if "batch_norm" in str(func):
        # aten::native_batch_norm writes to its running statistics, and does not declare it.
        yield from (leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor))
    if not func._schema.is_mutable:  # noqa: SLF001 - there is no other way to ask
        return
    declared = func._schema.arguments  # noqa: SLF001
    for index, argument in enumerate(declared):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from (leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor))
