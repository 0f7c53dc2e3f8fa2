"""A user's own Torch module as an activation, exported and certified like those of `models`.

`package.module:Name` may be a record (`models.Activation`), used as it is, or an ``nn.Module``
class. Of a class, everything is found out: its inputs are the arguments of ``forward``, its
decomposition is what ``torch.onnx.export`` makes of it, its derivatives are autograd's. It may say
more of itself, by these attributes:

- ``formula``, in SymPy's language, with ``sigmoid`` and ``relu`` besides: then exact results are
  the formula's in mpmath. Without one they are the module's own in float64.
- ``domain``, the least and the greatest input that it is meant for: there it is certified.
- ``tolerances`` and ``derivative_tolerances``, per dtype, as records have them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import onnx_ir as ir
import sympy
import torch
from sympy.core.function import AppliedUndef
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch._ops import OpOverload
from torch.fx.experimental.proxy_tensor import make_fx

from export import reference
from export.errors import NotAnActivationError
from export.graph_ops import GraphOps
from export.trace import trace
from export.translations import torch_translations
from models import Activation, DType, Operator
from models.bounds import BENT
from models.symbols import Relu, Sigma

SCALED = (
    torch.ops.aten.celu,
    torch.ops.aten.elu,
    torch.ops.aten.elu_backward,
    torch.ops.aten.hardshrink,
    torch.ops.aten.leaky_relu,
    torch.ops.aten.leaky_relu_backward,
    torch.ops.aten.softplus,
    torch.ops.aten.softplus_backward,
)
"""What ONNX has with float32 attributes: taken apart, so that float64 keeps its constants."""

DOMAIN_OF_CUSTOM = (-100.0, 100.0)
"""Where custom modules are certified: further out many lose all digits, the sine of 1e30 say."""

WORTH_SEEING = (-6.0, 6.0)
EXAMPLES = 5


def load(target: str) -> Activation:
    """The activation that ``package.module:Name`` names, looked for in the working folder too.

    Raises:
        NotAnActivationError: There is no such name, or it is neither a record nor an elementwise
            module.
    """
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
    if isinstance(found, type) and issubclass(found, nn.Module):
        return activation_of(found)
    raise NotAnActivationError(
        f"{target} is neither an nn.Module class nor an Activation, but {type(found).__name__}"
    )


def activation_of(module: type[nn.Module]) -> Activation:
    """The record of a Torch module: elementwise, without arguments of its own, one output.

    Raises:
        NotAnActivationError: The module needs arguments, takes no or optional tensors, differs from
            one instance to the next, or is not elementwise; or its formula is none of its inputs.
    """
    names = _tensor_names(module)
    domain = getattr(module, "domain", DOMAIN_OF_CUSTOM)
    range_ = (max(domain[0], WORTH_SEEING[0]), min(domain[1], WORTH_SEEING[1]))
    example = _example(names, range_)
    _check_definite(module)
    _check_elementwise(module, example)
    try:
        activation = Activation(
            name=re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", module.__name__).lower(),
            title=module.__name__,
            summary=(inspect.getdoc(module) or module.__name__).strip().splitlines()[0],
            inputs=names,
            operators=(_operator(module, names),),
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
    return activation


def _operator(module: type[nn.Module], names: Sequence[str]) -> Operator:
    def value(op: Any, *tensors: Any) -> Any:
        (result,) = _computed(op, module, tensors)
        return result

    def partials(op: Any, *tensors: Any) -> tuple[Any, ...]:
        return _computed(op, partials_module, tensors)

    def partials_module() -> nn.Module:
        return _Partials(module())

    return Operator(
        op_type=module.__name__,
        formula=_formula(module, names),
        module=module,
        value=value,
        partials=partials,
        tolerances=getattr(module, "tolerances", BENT),
        derivative_tolerances=getattr(module, "derivative_tolerances", BENT),
        scale=tuple(names),
    )


class _Partials(nn.Module):
    """The partial derivatives of an elementwise module, by autograd."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        result, pull_back, *_ = torch.func.vjp(self.module, *tensors)
        partials: tuple[Tensor, ...] = pull_back(torch.ones_like(result))
        return partials


def _computed(op: Any, build: Callable[[], nn.Module], tensors: Sequence[Any]) -> tuple[Any, ...]:
    """What the module that ``build`` makes gives at ``tensors``: drawn, or computed by Torch."""
    if isinstance(op, GraphOps):
        return tuple(op.splice(_exported(build, op.dtype, len(tensors)), tensors))
    results = build().to(tensors[0].dtype).eval()(*tensors)
    return results if isinstance(results, tuple) else (results,)


@functools.cache
def _exported(build: Callable[[], nn.Module], dtype: DType, arity: int) -> ir.Model:
    """What Torch makes of a module, for tensors of one axis of any length."""
    kind = getattr(torch, dtype)
    arguments = {f"x{i}": torch.full((2,), 0.5, dtype=kind) for i in range(arity)}
    # Down to ATen first: torch.export by itself leaves fake tensors where autograd's are wanted.
    # Symbolically, or the length of these examples would stay in the graph; parameters are real.
    flatten = make_fx(
        build().to(kind).eval(),
        decomposition_table=get_decompositions(SCALED),  # type: ignore[arg-type]
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
    )
    size = torch.export.Dim("n")
    try:
        flat = _with_tensor_constants(flatten(*arguments.values()), kind)
        shapes = tuple({0: size} for _ in arguments)
        return trace(flat, arguments, (), dynamic_shapes=shapes, translations=torch_translations())
    except Exception as error:  # tracing runs the user's code, which may fail in any way
        raise NotAnActivationError(f"Torch cannot export it in {dtype}: {error}") from error


def _with_tensor_constants(flat: fx.GraphModule, kind: torch.dtype) -> fx.GraphModule:
    """The same graph, its numbers tensors: Torch's exporter rounds Python's to float32."""
    for node in list(flat.graph.nodes):
        if not isinstance(node.target, OpOverload):
            continue
        for index, (value, declared) in enumerate(
            zip(node.args, node.target._schema.arguments, strict=False)  # noqa: SLF001 - no other
        ):
            if isinstance(value, float) and isinstance(declared.type, torch.TensorType):
                name = f"_constant_{node.name}_{index}"
                flat.register_buffer(name, torch.tensor(value, dtype=kind))
                with flat.graph.inserting_before(node):
                    node.update_arg(index, flat.graph.get_attr(name))
    flat.recompile()
    return flat


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
            f"{module.__name__}() must work without arguments: {error}"
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
            f"{module.__name__} fails on tensors of shape {shape}: {error}"
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
    symbols = {name: sympy.Symbol(name, real=True) for name in names}
    written = getattr(module, "formula", None)
    if written is None:
        return sympy.Function(module.__name__)(*symbols.values())
    try:
        found = sympy.sympify(written, locals={**symbols, "sigmoid": Sigma, "relu": Relu})
    except (sympy.SympifyError, TypeError, SyntaxError) as error:
        raise NotAnActivationError(
            f"{module.__name__}.formula {written!r} is not a SymPy expression: {error}"
        ) from error
    if not isinstance(found, sympy.Expr):
        raise NotAnActivationError(f"{module.__name__}.formula {written!r} is not a number")
    if unknown := found.atoms(AppliedUndef):
        raise NotAnActivationError(
            f"{module.__name__}.formula calls {unknown.pop().func}, which SymPy does not know"
        )
    return found.subs({sympy.Symbol(name): symbol for name, symbol in symbols.items()})


def _check_formula(activation: Activation) -> None:
    (only,) = activation.operators
    if only.formula.has(AppliedUndef):
        return
    try:
        reference.definition(activation, only)(*(v[0] for v in activation.example.values()))
    except Exception as error:  # SymPy writes code for mpmath that may name what mpmath lacks
        raise NotAnActivationError(
            f"{activation.title}.formula cannot be computed by mpmath: {error}"
        ) from error
