"""Base of the Torch modules, and the module class of a record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gatewave.models.activation import Operator, arguments_of
from gatewave.models.torch.ops import FLOAT32, FLOAT64, rounded_once, torch_ops


class ActivationModule(nn.Module):
    """Base of the module classes of records.

    Attributes:
        plain_forward: The ``forward`` that the class was defined with. An exporter compares the
            running function with it: a forward that was patched later computes something else.
    """

    plain_forward: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Remember ``forward`` before anyone can patch it."""
        super().__init_subclass__(**kwargs)
        cls.plain_forward = cls.forward


def class_of(operator: Operator) -> type[nn.Module]:
    """Return the class that ``operator.module`` gives or names, or else one made from the record.

    Raises:
        TypeError: The path names another object than a class of modules.
    """
    if operator.module is None:
        return derived_class(operator)
    if isinstance(operator.module, type):
        return operator.module
    home, _, name = operator.module.partition(":")
    found = getattr(import_module(home), name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TypeError(f"{operator.op_type}: {operator.module} is not a class of Torch modules")
    return found


def derived_class(operator: Operator) -> type[ActivationModule]:
    """Make a module class that computes the decomposition of ``operator``.

    Its arguments are the choice and the real parameters of the operator. It is pickled as a name
    of `gatewave.models`, which finds it in the catalogue.
    """
    arguments = _arguments(operator)
    defaults: Mapping[str, Any] = {
        **operator.choice,
        **{name: arguments[name] for name in operator.reals},
    }

    def __init__(self: ActivationModule, **settings: Any) -> None:  # noqa: N807 - of the class
        ActivationModule.__init__(self)
        if unknown := {*settings} - {*defaults}:
            raise TypeError(f"{operator.class_name} takes no {', '.join(sorted(unknown))}")
        for name, default in defaults.items():
            setattr(self, name, settings.get(name, default))

    body = {
        "__init__": __init__,
        "__doc__": f"``{operator.formula}``; equal shapes, any floating dtype.",
        "__module__": "gatewave.models",
        "forward": _forward(operator),
    }
    _check(operator)
    return type(operator.class_name, (ActivationModule,), body)


def _check(operator: Operator) -> None:
    """Compute the decompositions once, so that an operator which Torch lacks is found here.

    Raises:
        AttributeError: Torch has no function for an operator; the message says what to add.
    """
    for op, kind in ((FLOAT32, torch.float32), (FLOAT64, torch.float64)):
        tensors = [torch.ones(1, dtype=kind) for _ in _inputs(operator)]
        reals = {name: _arguments(operator)[name] for name in operator.reals}
        operator.value(op, *tensors, **reals)
        operator.partials(op, *tensors, **reals)


def _arguments(operator: Operator) -> dict[str, float | None]:
    """Return the names of the inputs and the real parameters, and the defaults of the latter.

    Raises:
        TypeError: The decomposition takes any number of tensors, so that it does not name them.
    """
    found = arguments_of(operator.value)
    if found is None:
        raise TypeError(f"{operator.op_type} names no Torch module, and its value no inputs")
    return found


def _inputs(operator: Operator) -> tuple[str, ...]:
    return tuple(name for name in _arguments(operator) if name not in operator.reals)


def _forward(operator: Operator) -> Callable[..., Tensor]:
    """Return a ``forward`` that takes the inputs of ``operator``, by position or by name."""
    reals = operator.reals
    inputs = _inputs(operator)

    @rounded_once
    def forward(self: nn.Module, *tensors: Tensor, **named: Tensor) -> Tensor:
        # Not inspect.Signature.bind, which torch.compile(fullgraph=True) cannot trace.
        given = (*tensors, *(named.pop(name) for name in inputs[len(tensors) :] if name in named))
        if named or len(given) != len(inputs):
            raise TypeError(f"{operator.class_name} takes the tensors {', '.join(inputs)}")
        settings = {name: getattr(self, name) for name in reals}
        found: Tensor = operator.value(torch_ops(given[0]), *given, **settings)
        return found

    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, plain) for name in ("self", *inputs)]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return forward


def plain_forward(module: type[nn.Module]) -> Callable[..., Any]:
    """Return the ``forward`` that a class was defined with, or, if not ours, its present one."""
    return module.plain_forward if issubclass(module, ActivationModule) else module.forward


def derivative(operator: Operator, *inputs: Tensor, **parameters: float) -> tuple[Tensor, ...]:
    """Compute the partial derivatives of ``operator``, one per input, in their shape and dtype."""

    @rounded_once
    def partials(*wide: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = operator.partials(torch_ops(wide[0]), *wide, **parameters)
        return found

    return partials(*inputs)
