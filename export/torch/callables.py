"""A user's elementwise function, in any form that Torch has for one, as a class of modules.

These forms are taken:

- a class of modules that needs no arguments, or a module, which keeps its parameters;
- an `torch.export.ExportedProgram`, or the graph module that it gives;
- a function, a `functools.partial`, or a class derived from `torch.autograd.Function`. Arguments
  that have a default keep it.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from gatewave.export.errors import NotAnActivationError

PROBED_NAMES = (("x",), ("a", "b"), ("a", "b", "c"))
"""Inputs of functions written in C++, which have no signature: as many as they accept."""

ATTRIBUTES = ("formula", "domain", "tolerances", "derivative_tolerances")
"""Remarks of a module, or of a function, about itself: see `custom`."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def module_class(found: Any, name: str, source: str) -> type[nn.Module]:
    """Return a module class that computes the same as ``found``; a module class is returned as is.

    Args:
        found: One of the forms above.
        name: The name of the class, if one is made.
        source: Place at which it was found, ``package.module``.

    Raises:
        NotAnActivationError: It is another object, or its tensor arguments cannot be determined.
    """
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if isinstance(found, ExportedProgram):
        return _of_module(_unguarded(found.module()), found, name, source)
    if isinstance(found, fx.GraphModule):
        return _of_module(_unguarded(found), found, name, source)
    if isinstance(found, nn.Module):
        return _of_module(found, found, name, source)
    if isinstance(found, type) and issubclass(found, torch.autograd.Function):
        return _of_function(found.apply, found, _arguments_of(found), name, source)
    if callable(found) and not isinstance(found, type):
        return _of_function(found, found, _tensors_of(found, name), name, source)
    raise NotAnActivationError(
        f"{source}:{name} is neither an nn.Module, an Activation, an ExportedProgram, nor a "
        f"function, but {type(found).__name__}"
    )


def load_program(path: Path) -> ExportedProgram:
    """Return the program that `torch.export.save` wrote.

    Raises:
        NotAnActivationError: The file is missing, or is no such program.
    """
    try:
        return torch.export.load(path)
    except Exception as error:  # Torch's errors for damaged files have no common class
        raise NotAnActivationError(f"{path}: {type(error).__name__}: {error}") from error


def _unguarded(module: fx.GraphModule) -> fx.GraphModule:
    """Return the graph without the checks that its inputs have the shapes of the example.

    An elementwise graph computes the same at every shape; one that does not is refused later.
    """
    graph = fx.Graph()
    result = graph.graph_copy(module.graph, {})
    (only,) = result if isinstance(result, tuple | list) and len(result) == 1 else (result,)
    graph.output(only)
    for node in list(graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.erase_node(node)
    # A new module: an exported one refuses eval(), and checks its inputs.
    return fx.GraphModule(module, graph)


def _of_module(inner: nn.Module, found: Any, name: str, source: str) -> type[nn.Module]:
    class ModuleWrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(inner)

        def forward(self, *tensors: Tensor) -> Any:
            return self.inner(*tensors)

    parameters = list(inspect.signature(inner.forward).parameters.values())
    return _named(ModuleWrapper, found, parameters, name, source)


def _of_function(
    function: Callable[..., Any],
    found: Any,
    parameters: Sequence[inspect.Parameter],
    name: str,
    source: str,
) -> type[nn.Module]:
    class FunctionWrapper(nn.Module):
        def forward(self, *tensors: Tensor) -> Any:
            return function(*tensors)

    return _named(FunctionWrapper, found, parameters, name, source)


def _named(
    module: type[nn.Module],
    found: Any,
    parameters: Sequence[inspect.Parameter],
    name: str,
    source: str,
) -> type[nn.Module]:
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    taken = [p.replace(kind=plain) if p.kind in POSITIONAL else p for p in parameters]
    signature = inspect.Signature([inspect.Parameter("self", plain), *taken])
    module.forward.__signature__ = signature  # type: ignore[attr-defined]
    module.__name__ = module.__qualname__ = name
    module.__module__ = source
    module.__doc__ = None if isinstance(found, functools.partial) else found.__doc__
    for attribute in ATTRIBUTES:
        if hasattr(found, attribute):
            setattr(module, attribute, getattr(found, attribute))
    return module


def _arguments_of(function: type[torch.autograd.Function]) -> list[inspect.Parameter]:
    """Return the parameters of ``forward``, without the context, which old ones take first."""
    parameters = list(inspect.signature(function.forward).parameters.values())
    separate = function.setup_context is not torch.autograd.Function.setup_context
    return parameters if separate else parameters[1:]


def _tensors_of(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return _probed(function, name)
    return [p for p in parameters if p.default is p.empty and p.kind in POSITIONAL]


def _probed(function: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    """Return as many parameters as the function takes tensors, found by calling it."""
    errors = []
    for names in PROBED_NAMES:
        try:
            function(*(torch.full((2,), 0.5) for _ in names))
        except (TypeError, RuntimeError, ValueError) as error:
            errors.append(error)
        else:
            return [inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names]
    raise NotAnActivationError(
        f"{name} does not accept one, two or three tensors: {errors[0]}. Give its other arguments "
        "by functools.partial, in a module of your own"
    ) from errors[0]
