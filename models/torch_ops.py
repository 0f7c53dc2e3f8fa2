"""The ONNX operators that decompositions use, computed by Torch, and the precision they run in."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor


Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, ...])


class TorchOps:
    """An ``op`` that computes with Torch, so that a decomposition is also a Torch function."""

    def __init__(self, digits: int) -> None:
        self.digits = digits

    Abs = staticmethod(torch.abs)
    Cos = staticmethod(torch.cos)
    Erf = staticmethod(torch.erf)
    Exp = staticmethod(torch.exp)
    Floor = staticmethod(torch.floor)
    Neg = staticmethod(torch.neg)
    Relu = staticmethod(torch.relu)
    Round = staticmethod(torch.round)
    Sigmoid = staticmethod(torch.sigmoid)
    Sin = staticmethod(torch.sin)
    Tanh = staticmethod(torch.tanh)
    Where = staticmethod(torch.where)

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
    def Less(left: Any, right: Any) -> Any:
        return left < right

    @staticmethod
    def LessOrEqual(left: Any, right: Any) -> Any:
        return left <= right

    @staticmethod
    def Greater(left: Any, right: Any) -> Any:
        return left > right


FLOAT32 = TorchOps(24)
FLOAT64 = TorchOps(53)


def torch_ops(like: Tensor) -> TorchOps:
    return FLOAT64 if like.dtype == torch.float64 else FLOAT32


def rounded_once(function: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
    """``function`` of ``inputs``, computed in float32 where they are 16-bit.

    Rounding after each step would cost 16-bit results several units in the last place.
    """
    dtype = reduce(torch.promote_types, (x.dtype for x in inputs))
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    results = function(*(x.to(wide) for x in inputs))
    if isinstance(results, tuple):
        return tuple(result.to(dtype) for result in results)
    return results.to(dtype)
