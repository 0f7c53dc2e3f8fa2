"""User-defined Torch functions as activations, exported and certified like those of `models`.

`package.module:Name` may be a record (`models.Activation`), used as it is, or any of the forms that
`callables` names; a path that ends in ``.pt2`` is a program that `torch.export.save` wrote. The
properties are derived: the inputs are the arguments of ``forward``, the decomposition is the output
of ``torch.onnx.export``, the derivatives are autograd's, at kinks too. These optional attributes
override or add to them:

- ``formula``, in SymPy's language, with ``sigmoid`` and ``relu`` besides: then exact results are
  the formula's in mpmath. Without one they are the module's own in float64.
- ``domain``, the least and the greatest input that it is meant for: there it is certified.
- ``tolerances`` and ``derivative_tolerances``, per dtype, as records have them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import sympy
import torch
from torch import Tensor, nn

from gatewave.export.accuracy import reference
from gatewave.export.accuracy.kinks import in_words
from gatewave.export.errors import NotAnActivationError
from gatewave.export.torch import callables, module_graphs
from gatewave.graphs.ops.graph_ops import GraphOps
from gatewave.models import ACTIVATIONS, Activation, Operator, symbols
from gatewave.models.bounds import SLOPE

DOMAIN_OF_CUSTOM = (-100.0, 100.0)
"""Range in which custom modules are certified. Beyond it many lose all digits, as sin(1e30)."""

PROGRAM = ".pt2"
"""The suffix of files that `torch.export.save` writes."""

WORTH_SEEING = (-6.0, 6.0)
EXAMPLES = 5


def load(target: str) -> Activation:
    """Return the activation that ``target`` names: ``package.module:Name``, or a program's file.

    Modules are looked for in the working folder too.

    Raises:
        NotAnActivationError: There is no such name, or it is neither a record nor an elementwise
            function.
    """
    if target.endswith(PROGRAM):
        path = Path(target)
        program = callables.load_program(path)
        return activation_of(callables.module_class(program, path.stem.replace("-", "_"), target))
    module_name, _, name = target.partition(":")
    if not (module_name and name):
        raise NotAnActivationError(f"{target!r} is not of the form package.module:Name")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(name)(importlib.import_module(module_name))
    except Exception as error:  # importing runs the user's code, which may fail in any way
        raise NotAnActivationError(f"{target}: {type(error).__name__}: {error}") from error
    if isinstance(found, Activation):
        return found
    return activation_of(callables.module_class(found, name.rpartition(".")[2], module_name))


def activation_of(module: type[nn.Module]) -> Activation:
    """The record of a Torch module: elementwise, without arguments of its own, one output.

    Raises:
        NotAnActivationError: The module needs arguments, takes no or optional tensors, differs from
            one instance to the next, or is not elementwise; or its formula does not use its inputs.
    """
    names = _tensor_names(module)
    domain = getattr(module, "domain", DOMAIN_OF_CUSTOM)
    range_ = (max(domain[0], WORTH_SEEING[0]), min(domain[1], WORTH_SEEING[1]))
    example = _example(names, range_)
    _check_definite(module)
    _check_elementwise(module, example)
    prefix = _prefix(module)
    try:
        activation = Activation(
            name=prefix.lower() + _snake_case(module.__name__),
            title=module.__name__,
            summary=(module.__doc__ or module.__name__).strip().splitlines()[0],
            inputs=names,
            operators=(_operator(module, names, prefix),),
            source=f"{module.__module__}:{module.__qualname__}",
            example=example,
            plot_range=range_,
            properties=(),
            uses=(),
            limits=("Its derivatives are those that autograd finds.",),
            domain=domain,
        )
    except ValueError as error:  # a name that the graphs cannot have
        raise NotAnActivationError(str(error)) from error
    _check_formula(activation)
    kinks = reference.kinks(activation, activation.operators[0])
    limits = (*activation.limits, *in_words(names[0], kinks))
    return dataclasses.replace(activation, limits=limits)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _prefix(module: type[nn.Module]) -> str:
    """Return ``Torch_`` for a Torch module with the name of a record: users cannot rename it."""
    from_torch = module.__module__.partition(".")[0] == "torch"
    return "Torch_" if from_torch and _snake_case(module.__name__) in ACTIVATIONS else ""


def _operator(module: type[nn.Module], names: Sequence[str], prefix: str) -> Operator:
    build: module_graphs.Build = module

    def value(op: Any, *tensors: Any) -> Any:
        if isinstance(op, GraphOps):
            (result,) = op.splice(
                module_graphs.value_model(build, op.dtype, len(tensors)), tensors, slice(1)
            )
            return result
        return module_graphs.ready(build(), tensors[0].dtype)(*tensors)

    def partials(op: Any, *tensors: Any) -> tuple[Any, ...]:
        if isinstance(op, GraphOps):
            model = module_graphs.model_of(build, op.dtype, len(tensors))
            return tuple(op.splice(model, tensors, slice(1, None)))
        return module_graphs.partials(build, tensors)

    return Operator(
        op_type=prefix.replace("_", "") + module.__name__,
        formula=_formula(module, names),
        module=module,
        value=value,
        partials=partials,
        tolerances=getattr(module, "tolerances", SLOPE),
        derivative_tolerances=getattr(module, "derivative_tolerances", SLOPE),
        scale=tuple(names),
    )


def _tensor_names(module: type[nn.Module]) -> tuple[str, ...]:
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    if not parameters or any(p.kind != plain or p.default is not p.empty for p in parameters):
        raise NotAnActivationError(
            f"{module.__name__}.forward must take one tensor or more, by plain arguments"
        )
    return tuple(p.name for p in parameters)


def _example(names: Sequence[str], range_: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Values spread over the range; each input has them in another order."""
    low, high = range_
    spread = [low + (high - low) * k / (EXAMPLES + 1) for k in range(1, EXAMPLES + 1)]
    return {n: (*spread[i % EXAMPLES :], *spread[: i % EXAMPLES]) for i, n in enumerate(names)}


def _check_definite(module: type[nn.Module]) -> None:
    try:
        states = [module().state_dict() for _ in range(2)]
    except Exception as error:
        raise NotAnActivationError(
            f"{module.__name__}() must work without arguments: {error}. Name a module that has "
            "them, package.module:name, in place of its class"
        ) from error
    first, second = states
    if not all(torch.equal(value, second[name]) for name, value in first.items()):
        raise NotAnActivationError(
            f"{module.__name__} is initialised at random: give its parameters their values"
        )


def _check_elementwise(module: type[nn.Module], example: dict[str, tuple[float, ...]]) -> None:
    shape = (1, EXAMPLES)
    # In float64, where vectorised and single evaluations differ by little.
    tensors = [torch.tensor([values], dtype=torch.float64) for values in example.values()]
    compute = module().double().eval()
    try:
        result = compute(*tensors)
        alone = [compute(*(t[:, i : i + 1] for t in tensors)) for i in range(EXAMPLES)]
    except Exception as error:
        raise NotAnActivationError(
            f"{module.__name__} fails on tensors of shape {shape}: {error}. Arguments that are no "
            "tensors are given by functools.partial, or by a module of your own"
        ) from error
    if not isinstance(result, Tensor) or result.shape != shape:
        got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise NotAnActivationError(
            f"{module.__name__} is not elementwise: of shape {shape} it makes {got}"
        )
    if not torch.allclose(result, torch.cat(alone, dim=1), rtol=1e-4, equal_nan=True):
        raise NotAnActivationError(
            f"{module.__name__} is not elementwise: an element's result depends on others"
        )


def _formula(module: type[nn.Module], names: Sequence[str]) -> sympy.Expr:
    written = getattr(module, "formula", None)
    if written is None:
        return symbols.undefined(module.__name__, tuple(names))
    try:
        return symbols.parse(written, tuple(names))
    except ValueError as error:
        raise NotAnActivationError(f"{module.__name__}.formula {error}") from error


def _check_formula(activation: Activation) -> None:
    (only,) = activation.operators
    if symbols.is_undefined(activation.expression(only)):
        return
    try:
        reference.definition(activation, only)(*(v[0] for v in activation.example.values()))
    except Exception as error:  # SymPy writes code for mpmath that may name what mpmath lacks
        raise NotAnActivationError(
            f"{activation.title}.formula cannot be computed by mpmath: {error}"
        ) from error
