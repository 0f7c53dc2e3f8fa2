"""Named example inputs, bound to the parameters of a module's ``forward``.

The names of a graph's inputs are either names of ``forward``'s parameters, in any order, or free
names, which are bound by position. A mixture is refused: a misspelt name would otherwise silently
pass a tensor to another parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from gatewave.export.errors import ArgumentsError

ParameterKind = inspect.Parameter
BY_POSITION = (ParameterKind.POSITIONAL_ONLY, ParameterKind.POSITIONAL_OR_KEYWORD)
BY_NAME = (*BY_POSITION, ParameterKind.KEYWORD_ONLY)


@dataclass(frozen=True)
class Bound:
    """Examples as a call of a module takes them.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments, in the order of the signature.
        names: Name of each tensor, in the order in which ``args`` and ``kwargs`` are flattened.
        given: The same names, in the order in which the caller gave them.
        dynamic_shapes: As ``torch.onnx.export`` takes them for these arguments.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: tuple[str, ...]
    given: tuple[str, ...]
    dynamic_shapes: Any

    @property
    def tensors(self) -> list[Tensor]:
        """The example tensors, in the order of ``names``."""
        return pytree.tree_leaves((self.args, self.kwargs))

    def filled(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with other tensors in the places of the examples."""
        _, structure = pytree.tree_flatten((self.args, self.kwargs))
        args, kwargs = pytree.tree_unflatten(list(tensors), structure)
        return args, kwargs


def bind(
    module: nn.Module | ExportedProgram, arguments: Mapping[str, Any], dynamic_shapes: Any = None
) -> Bound:
    """Bind named examples to the parameters of ``module``.

    Args:
        module: A module, or a program that Torch has exported.
        arguments: Tensors, or lists, tuples and dictionaries of tensors, by name.
        dynamic_shapes: As `gatewave.export.torch.to_onnx.to_onnx` takes them.

    Raises:
        ArgumentsError: The names or examples do not fit the module, or the shapes do not fit them.
    """
    if not isinstance(arguments, Mapping):
        raise ArgumentsError(
            "arguments: expected a mapping from input names to example tensors, "
            f"got {type(arguments).__name__}"
        )
    named = {name: _named(name, value) for name, value in arguments.items()}
    given = tuple(pytree.tree_leaves(list(named.values())))
    if repeated := sorted({name for name in given if given.count(name) > 1}):
        raise ArgumentsError(f"arguments: two inputs would have the name {repeated[0]!r}")
    signature = _signature(module)
    placed = _placed(list(arguments), signature)
    args, kwargs = _called(signature, _filled(placed, _distinct(arguments)))
    if isinstance(dynamic_shapes, Mapping | Sequence):
        specs = _specs(dynamic_shapes, placed, list(arguments))
        dynamic_shapes = _filled(placed, specs)
    return Bound(
        args=args,
        kwargs=kwargs,
        names=tuple(pytree.tree_leaves(_called(signature, _filled(placed, named)))),
        given=given,
        dynamic_shapes=dynamic_shapes,
    )


ArgumentPath = str | tuple[str, ...] | Mapping[str, str]
"""Inputs of a parameter: one name; a sequence for ``*args``; a mapping for ``**kwargs``."""


def _signature(module: nn.Module | ExportedProgram) -> inspect.Signature:
    """Return the parameters that a call of ``module`` takes."""
    if isinstance(module, ExportedProgram):
        return inspect.signature(module.module().forward)
    called = type(module).__call__
    if called is not nn.Module.__call__:
        overridden = inspect.signature(called.__get__(module))
        if any(p.kind in BY_NAME for p in overridden.parameters.values()):
            return overridden
    # torch.compile hides the signature behind one of (*args, **kwargs).
    return inspect.signature(getattr(module, "_orig_mod", module).forward)


def _placed(names: Sequence[str], signature: inspect.Signature) -> dict[str, ArgumentPath]:
    """Return the inputs that each parameter takes, in the order of the signature."""
    parameters = signature.parameters
    by_name = [n for n, p in parameters.items() if p.kind in BY_NAME]
    known = [name for name in names if name in by_name]
    if not known:
        placed = _by_position(names, signature)
    elif len(known) == len(names) or _variadic(signature, ParameterKind.VAR_KEYWORD):
        placed = {name: name for name in by_name if name in known}
        rest = {name: name for name in names if name not in known}
        if rest:
            placed[_variadic(signature, ParameterKind.VAR_KEYWORD)] = rest
    else:
        raise ArgumentsError(
            f"arguments: {_listed(n for n in names if n not in known)}: no such parameter of "
            f"forward, but {_listed(known)}: expected either names of forward's parameters only "
            f"({_listed(by_name)}), or none of them, which binds by position; "
            f"got {_listed(names)}"
        )
    needed = [
        n for n in by_name if parameters[n].default is ParameterKind.empty and n not in placed
    ]
    if needed:
        raise ArgumentsError(
            f"arguments: forward's parameter {needed[0]!r} is not given: expected "
            f"{_listed(by_name)}, got {_listed(names)}"
        )
    return placed


def _by_position(names: Sequence[str], signature: inspect.Signature) -> dict[str, ArgumentPath]:
    parameters = [n for n, p in signature.parameters.items() if p.kind in BY_POSITION]
    placed: dict[str, ArgumentPath] = dict(zip(parameters, names, strict=False))
    rest = tuple(names[len(parameters) :])
    several = _variadic(signature, ParameterKind.VAR_POSITIONAL)
    by_keyword = _variadic(signature, ParameterKind.VAR_KEYWORD)
    if rest and several:
        placed[several] = rest
    elif rest and by_keyword and not parameters:
        placed[by_keyword] = {name: name for name in rest}
    elif rest:
        raise ArgumentsError(
            f"arguments: forward takes {len(parameters)} by position ({_listed(parameters)}), "
            f"got {len(names)} ({_listed(names)})"
        )
    return placed


def _variadic(signature: inspect.Signature, kind: inspect._ParameterKind) -> str:
    """Return the name of ``*args`` or ``**kwargs``; empty without one."""
    return next((n for n, p in signature.parameters.items() if p.kind == kind), "")


def _filled(placed: Mapping[str, ArgumentPath], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``placed`` with values in place of the inputs' names."""

    def fill(place: ArgumentPath) -> Any:
        if isinstance(place, tuple):
            return tuple(values[name] for name in place)
        if isinstance(place, Mapping):
            return {key: values[name] for key, name in place.items()}
        return values[place]

    return {parameter: fill(place) for parameter, place in placed.items()}


def _called(
    signature: inspect.Signature, values: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments; those after an omitted default go by keyword."""
    bound = inspect.BoundArguments(signature, values)
    return bound.args, bound.kwargs


def _named(name: Any, value: Any) -> Any:
    """Return ``value`` with names in place of its tensors, as Torch names them: ``xs_0``."""
    if not isinstance(name, str) or not name:
        raise ArgumentsError(f"arguments: expected names that are words, got {name!r}")
    pairs, structure = pytree.tree_flatten_with_path(value)
    leaves = []
    for path, leaf in pairs:
        if not isinstance(leaf, Tensor):
            where = f"{name}{pytree.keystr(path)}"
            raise ArgumentsError(
                f"arguments: {where} is {_described(leaf)}: expected a tensor, or a list, tuple or "
                f"dictionary of tensors. A graph has tensors for inputs: "
                f"give torch.tensor(…), or leave out what has a default"
            )
        leaves.append("_".join([name, *(_key(entry) for entry in path)]))
    return pytree.tree_unflatten(leaves, structure)


def _distinct(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``arguments`` with a copy of each tensor that is given twice.

    Torch 2.13 merges two inputs that are given the same tensor.
    """
    seen: set[int] = set()

    def distinct(tensor: Tensor) -> Tensor:
        if id(tensor) in seen:
            return tensor.detach().clone().requires_grad_(tensor.requires_grad)
        seen.add(id(tensor))
        return tensor

    found: dict[str, Any] = pytree.tree_map(distinct, dict(arguments))
    return found


def _described(value: Any) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


def _key(entry: Any) -> str:
    return str(
        next(getattr(entry, kind) for kind in ("key", "idx", "name") if hasattr(entry, kind))
    )


def _specs(given: Any, placed: Mapping[str, ArgumentPath], names: Sequence[str]) -> dict[str, Any]:
    """Return the dynamic shapes of each input, by its name."""
    if not isinstance(given, Mapping):
        return _in_order(list(given), placed, names)
    if given.keys() <= {*names}:
        return {name: given.get(name) for name in names}
    if not given.keys() <= placed.keys():
        raise ArgumentsError(
            f"dynamic_shapes: expected names of the inputs ({_listed(names)}) or of forward's "
            f"parameters ({_listed(placed)}), got {_listed(given)}"
        )
    found: dict[str, Any] = dict.fromkeys(names)
    for parameter, spec in given.items():
        place = placed[parameter]
        if isinstance(place, str):
            found[place] = spec
        elif isinstance(place, Mapping):
            found |= {place[key]: one for key, one in (spec or {}).items()}
        else:
            found |= dict(zip(place, _alike(spec, place, parameter), strict=True))
    return found


def _in_order(
    given: list[Any], placed: Mapping[str, ArgumentPath], names: Sequence[str]
) -> dict[str, Any]:
    several = next((place for place in placed.values() if isinstance(place, tuple)), ())
    if several and given and len(given) == len(names) - len(several) + 1 and _is_nested(given[-1]):
        # torch.export wants the shapes of *args in their own tuple.
        given = [*given[:-1], *_alike(given[-1], several, "*")]
    if len(given) != len(names):
        raise ArgumentsError(
            f"dynamic_shapes: expected one entry for each of {_listed(names)}, got {len(given)}"
        )
    return dict(zip(names, given, strict=True))


def _is_nested(spec: Any) -> bool:
    """Return true if ``spec`` describes several tensors, not the axes of one."""
    return isinstance(spec, list | tuple) and any(
        isinstance(one, Mapping | list | tuple) for one in spec
    )


def _alike(spec: Any, place: Sequence[str], parameter: str) -> Sequence[Any]:
    if spec is None:
        return [None] * len(place)
    if not isinstance(spec, list | tuple) or len(spec) != len(place):
        raise ArgumentsError(
            f"dynamic_shapes: {parameter}: expected {len(place)} entries "
            f"({_listed(place)}), got {spec!r}"
        )
    return spec


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"
