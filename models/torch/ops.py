"""The ONNX operators that decompositions use, computed by Torch, and the precision they run in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor

from gatewave.models.activation import FLOAT32_BITS, FLOAT64_BITS

Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


Function = Callable[..., Any]
"""The original forward of a class, so that `Keep` can tell it from a patch."""

Keep = Callable[[Function, tuple[Any, ...], Mapping[str, Any]], Any]
"""Return the results of a call by other means, or ``None`` to have the function compute them."""

KEEP: ContextVar[Keep | None] = ContextVar("KEEP", default=None)
"""Called before a `rounded_once` function computes: exporters use it to keep the call as a node.

It is a switch of the current thread that the function itself reads. An export therefore changes no
module or class, and a patched, hooked or overridden forward runs as usual.
"""


class TorchOps:
    """An ``op`` that computes with Torch, so that a decomposition is also a Torch function.

    An operator without a method here is Torch's function of the same name in small letters.
    """

    def __init__(self, precision_bits: int) -> None:
        self.precision_bits = precision_bits

    Abs = staticmethod(torch.abs)
    Cos = staticmethod(torch.cos)
    Erf = staticmethod(torch.erf)
    Exp = staticmethod(torch.exp)
    Floor = staticmethod(torch.floor)
    Log = staticmethod(torch.log)
    Neg = staticmethod(torch.neg)
    Relu = staticmethod(torch.relu)
    Round = staticmethod(torch.round)
    Sigmoid = staticmethod(torch.sigmoid)
    Sin = staticmethod(torch.sin)
    Sqrt = staticmethod(torch.sqrt)
    Tanh = staticmethod(torch.tanh)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        """Return Torch's function of the same name in small letters, such as `torch.atan`.

        Raises:
            AttributeError: Torch has no such function, or does not mark it as elementwise:
                `torch.mean` shares the name of an operator, and computes something else.
        """
        name = op_type.lower()
        overloads = getattr(torch.ops.aten, name, None) if op_type[:1].isupper() else None
        if overloads is None or not any(
            torch.Tag.pointwise in getattr(overloads, overload).tags
            for overload in overloads.overloads()
        ):
            raise AttributeError(
                f"Torch has no elementwise function for the operator {op_type}: add a method "
                f"{op_type} to TorchOps in models/torch/ops.py"
            )
        function: Callable[..., Any] = getattr(torch, name)
        # torch.compile reads an attribute, and cannot trace the look-up above.
        setattr(self, op_type, function)
        return function

    def Where(self, condition: Tensor, left: Any, right: Any) -> Tensor:
        if not isinstance(left, Tensor) and not isinstance(right, Tensor):
            # Of two numbers torch.where makes a float32, in which float64 results lose digits.
            dtype = torch.float64 if self.precision_bits == FLOAT64_BITS else torch.float32
            left = torch.full((), left, dtype=dtype, device=condition.device)
        return torch.where(condition, left, right)

    @staticmethod
    def Add(left: Any, right: Any) -> Any:
        return left + right

    @staticmethod
    def Sub(left: Any, right: Any) -> Any:
        return left - right

    @staticmethod
    def Mul(left: Any, right: Any) -> Any:
        return left * right

    @staticmethod
    def Div(left: Any, right: Any) -> Any:
        return left / right

    @staticmethod
    def Equal(left: Any, right: Any) -> Any:
        return left == right

    @staticmethod
    def Less(left: Any, right: Any) -> Any:
        return left < right

    @staticmethod
    def Min(left: Any, right: Any) -> Any:
        return torch.clamp(left, max=right)

    @staticmethod
    def Max(left: Any, right: Any) -> Any:
        return torch.clamp(left, min=right)

    @staticmethod
    def LessOrEqual(left: Any, right: Any) -> Any:
        return left <= right

    @staticmethod
    def Greater(left: Any, right: Any) -> Any:
        return left > right


FLOAT32 = TorchOps(FLOAT32_BITS)
FLOAT64 = TorchOps(FLOAT64_BITS)


def torch_ops(like: Tensor) -> TorchOps:
    return FLOAT64 if like.dtype == torch.float64 else FLOAT32


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype that Torch would compute ``tensors`` in together.

    Raises:
        TypeError: It is not a floating type: results would be cut to integers.
    """
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    if not dtype.is_floating_point:
        raise TypeError(f"activations take floating tensors, not {dtype}: convert them first")
    return dtype


def rounded_once(function: Callable[..., Outputs]) -> Callable[..., Outputs]:
    """``function``, computed in float32 where its tensors are 16-bit, its results in their dtype.

    Rounding after each step would cost 16-bit results several units in the last place.
    """

    def rounded(*args: Any, **kwargs: Any) -> Outputs:
        # Dynamo, which traces the branches of torch.cond, cannot follow a context variable.
        keep = None if torch.compiler.is_dynamo_compiling() else KEEP.get()
        if keep is not None and (kept := keep(wrapper, args, kwargs)) is not None:
            found: Outputs = kept
            return found
        dtype = common_dtype(*(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)))
        wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

        def widened(value: Any) -> Any:
            return value.to(wide) if isinstance(value, Tensor) else value

        results = function(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})
        if isinstance(results, tuple):
            return tuple(result.to(dtype) for result in results)
        return results.to(dtype)

    wrapper: Callable[..., Outputs] = functools.wraps(function)(rounded)
    return wrapper
