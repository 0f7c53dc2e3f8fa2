"""Translations of Torch functions with number arguments that keep float64 numbers exact.

Torch's exporter turns a Python number into a float32 tensor, and casts that. This table makes
float64 tensors of the numbers in float64 graphs, and otherwise uses Torch's own translations.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops import core

from gatewave.export.torch.recorded_ops import Translations

DEFAULT = -1
"""Torch's value for a dtype that was not given."""


def table() -> Translations:
    """Return the translations by ATen function."""
    aten = torch.ops.aten
    return {
        aten.scalar_tensor.default: _scalar_tensor,
        aten.full.default: _full,
        aten.full_like.default: _full_like,
        aten.new_full.default: _new_full,
        aten.fill.Scalar: _fill,
        aten.masked_fill.Scalar: _masked_fill,
        aten.clamp.default: _clamp,
        aten.clamp.Tensor: _clamp_by_tensors,
        aten.clamp_min.default: _clamp_min,
        aten.clamp_max.default: _clamp_max,
        aten.add.Tensor: _add,
        aten.sub.Tensor: _sub,
        aten.addcmul.default: _addcmul,
        aten.addcdiv.default: _addcdiv,
    }


def _exact(number: Any, dtype: Any) -> Any:
    """Return ``number`` as a float64 tensor, if the dtype is float64 and it is not a tensor yet."""
    if isinstance(number, float) and dtype == ir.DataType.DOUBLE:
        return number_as(number, dtype)
    return number


def number_as(number: Any, dtype: Any) -> Any:
    return opset18.Constant(value=ir.to_proto(ir.tensor(number, dtype=dtype)))


def _clamp(x: Any, least: Any = None, greatest: Any = None) -> Any:
    if greatest is None and least is not None:
        return _clamp_min(x, least)
    if least is None and greatest is not None:
        return _clamp_max(x, greatest)
    return core.aten_clamp(x, _exact(least, x.dtype), _exact(greatest, x.dtype))


def _clamp_by_tensors(x: Any, least: Any = None, greatest: Any = None) -> Any:
    """Use Clip where possible: Torch's exporter merges Max and Min, with clashing names."""
    if least is None or greatest is None or len(least.shape) or len(greatest.shape):
        return core.aten_clamp_tensor(x, least, greatest)
    return opset18.Clip(x, opset18.CastLike(least, x), opset18.CastLike(greatest, x))


def _clamp_min(x: Any, least: Any) -> Any:
    """Use Max: Clip's other bound defaults to the greatest finite number."""
    return opset18.Max(x, number_as(least, x.dtype))


def _clamp_max(x: Any, greatest: Any) -> Any:
    return opset18.Min(x, number_as(greatest, x.dtype))


def _scalar_tensor(number: Any, dtype: int = DEFAULT, **_: Any) -> Any:
    return core.aten_scalar_tensor(_exact(number, dtype), dtype=dtype)


def _full(size: Any, number: Any, dtype: int = DEFAULT, **_: Any) -> Any:
    return core.aten_full(size, _exact(number, dtype), dtype=dtype)


def _full_like(x: Any, number: Any, dtype: int = DEFAULT, **_: Any) -> Any:
    wanted = x.dtype if dtype == DEFAULT else dtype
    return core.aten_full_like(x, _exact(number, wanted), dtype=dtype)


def _new_full(x: Any, size: Any, number: Any, dtype: int = DEFAULT, **_: Any) -> Any:
    wanted = x.dtype if dtype == DEFAULT else dtype
    return core.aten_new_full(x, size, _exact(number, wanted), dtype=dtype)


def _fill(x: Any, number: Any) -> Any:
    return core.aten_fill(x, _exact(number, x.dtype))


def _masked_fill(x: Any, mask: Any, number: Any) -> Any:
    return core.aten_masked_fill(x, mask, _exact(number, x.dtype))


def _add(x: Any, other: Any, alpha: Any = 1.0) -> Any:
    if isinstance(alpha, float) and alpha != 1 and x.dtype == ir.DataType.DOUBLE:
        return opset18.Add(x, opset18.Mul(other, number_as(alpha, x.dtype)))
    return core.aten_add(x, other, alpha=alpha)


def _sub(x: Any, other: Any, alpha: Any = 1.0) -> Any:
    if isinstance(alpha, float) and alpha != 1 and x.dtype == ir.DataType.DOUBLE:
        return opset18.Sub(x, opset18.Mul(other, number_as(alpha, x.dtype)))
    return core.aten_sub(x, other, alpha=alpha)


def _addcmul(x: Any, first: Any, second: Any, value: Any = 1.0) -> Any:
    product = opset18.Mul(opset18.Mul(first, number_as(value, x.dtype)), second)
    return opset18.Add(x, product)


def _addcdiv(x: Any, first: Any, second: Any, value: Any = 1.0) -> Any:
    quotient = opset18.Mul(opset18.Div(first, second), number_as(value, x.dtype))
    return opset18.Add(x, quotient)
