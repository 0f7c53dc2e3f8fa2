"""Translations of Torch's elementwise functions, by the formulas of `aten_formulas`.

Each entry names the dtypes in which Torch's own translation is correct. It is kept for them, since
runtimes fuse the forms that they know. For 16-bit floats the formulas are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import evaluator, opset18, opset20
from onnxscript.function_libs.torch_lib.ops import core, nn, special

from gatewave.export.torch import aten_formulas
from gatewave.export.torch.constants import number_as
from gatewave.export.torch.recorded_ops import Translation, Translations, cast, computed
from gatewave.graphs.ops import formulas
from gatewave.graphs.ops.graph_ops import ONNX_TYPES, compute_dtype, dtype_of
from gatewave.models import DType, elementary

GELU_SINCE = 20
"""The opset that has the operator Gelu."""

IN_FLOAT32: frozenset[DType] = frozenset({"float32"})
IN_IEEE_SHORT: frozenset[DType] = frozenset({"float32", "float16"})
IN_ALL_SHORT: frozenset[DType] = frozenset({"float32", "float16", "bfloat16"})
IN_LONG: frozenset[DType] = frozenset({"float32", "float64"})


def _form(
    formula: Translation,
    native: Translation | None = None,
    kept: Collection[DType] = IN_FLOAT32,
    tensors: int = 1,
) -> Translation:
    """Return the translation by a formula, where Torch's own is not right.

    Args:
        formula: A function of ``op``, the tensors, and ATen's other arguments.
        native: Torch's translation of the same; None where it is wrong in every dtype.
        kept: The dtypes in which Torch's translation is right. It is kept for integers, too.
        tensors: Number of arguments that are tensors.
    """

    def translate(x: Any, *rest: Any, **named: Any) -> Any:
        if native is not None and (not _is_floating(x) or dtype_of(x) in kept):
            return native(x, *rest, **named)
        others, numbers = rest[: tensors - 1], rest[tensors - 1 :]
        return computed(formula, dtype_of(x), [x, *others], *numbers, **named)

    return translate


def table() -> Translations:
    """Return the translations by ATen function; functions with two names appear twice."""
    aten = torch.ops.aten
    forms: dict[Callable[..., Any], Translation] = {
        aten.celu.default: _form(aten_formulas.celu, nn.aten_celu),
        aten.deg2rad.default: _form(aten_formulas.deg2rad, core.aten_deg2rad, IN_ALL_SHORT),
        aten.elu.default: _form(aten_formulas.elu, _elu),
        aten.erf.default: _form(aten_formulas.erf, special.aten_special_erf, IN_ALL_SHORT),
        aten.erfc.default: _form(aten_formulas.erfc),
        aten.expm1.default: _form(aten_formulas.expm1),
        aten.gelu.default: _form(aten_formulas.gelu, _gelu),
        aten.hardshrink.default: _form(aten_formulas.hardshrink),
        aten.hardsigmoid.default: _form(aten_formulas.hardsigmoid, nn.aten_hardsigmoid),
        aten.hardswish.default: _form(aten_formulas.hardswish, nn.aten_hardswish),
        aten.hardtanh.default: _form(aten_formulas.hardtanh, nn.aten_hardtanh, IN_IEEE_SHORT),
        aten.leaky_relu.default: _form(aten_formulas.leaky_relu, nn.aten_leaky_relu, IN_ALL_SHORT),
        aten.log10.default: _form(aten_formulas.log10, core.aten_log10),
        aten.log1p.default: _form(elementary.log1p),
        aten.log2.default: _form(aten_formulas.log2, core.aten_log2),
        aten.log_sigmoid.default: _form(aten_formulas.log_sigmoid),
        aten.logaddexp.default: _form(aten_formulas.logaddexp, tensors=2),
        aten.logaddexp2.default: _form(aten_formulas.logaddexp2, tensors=2),
        aten.logit.default: _form(aten_formulas.logit),
        aten.logsumexp.default: _logsumexp,
        aten.mish.default: _form(formulas.mish, nn.aten_mish),
        aten.rad2deg.default: _form(aten_formulas.rad2deg, core.aten_rad2deg, IN_ALL_SHORT),
        aten.remainder.Scalar: _remainder,
        aten.remainder.Scalar_Tensor: _remainder,
        aten.remainder.Tensor: _remainder,
        aten.rrelu_with_noise_functional.default: _rrelu,
        aten.selu.default: _form(aten_formulas.selu, core.aten_selu),
        aten.softplus.default: _form(aten_formulas.softplus, nn.aten_softplus),
        aten.softshrink.default: _form(aten_formulas.softshrink),
        aten.special_erfcx.default: _form(aten_formulas.erfcx),
        aten.special_log_ndtr.default: _form(aten_formulas.log_ndtr),
        aten.special_ndtr.default: _form(aten_formulas.ndtr),
        aten.threshold.default: _form(aten_formulas.threshold, _threshold, IN_LONG),
    }
    same = {
        aten.special_erf.default: aten.erf.default,
        aten.special_erfc.default: aten.erfc.default,
        aten.special_expm1.default: aten.expm1.default,
        aten.special_log1p.default: aten.log1p.default,
        aten.special_logit.default: aten.logit.default,
        aten.special_logsumexp.default: aten.logsumexp.default,
    }
    return forms | {other: forms[name] for other, name in same.items()}


def _is_floating(x: ir.Value) -> bool:
    return x.dtype in ONNX_TYPES.values()


def _elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    """Elu where ONNX has it; Torch's own translation scales the positive inputs, too."""
    if scale == input_scale == 1:
        return opset18.Elu(x, alpha=float(alpha))
    return computed(aten_formulas.elu, dtype_of(x), [x], alpha, scale, input_scale)


def _gelu(x: Any, approximate: str = "none") -> Any:
    # The exporter records at the opset asked for, if that is a later one than the table's.
    if evaluator.default().opset.version >= GELU_SINCE:  # type: ignore[attr-defined]
        return opset20.Gelu(x, approximate=approximate)
    return nn.aten_gelu(x, approximate=approximate)


def _threshold(x: Any, threshold: float, value: float) -> Any:
    limit, other = (number_as(number, x.dtype) for number in (threshold, value))
    return opset18.Where(opset18.LessOrEqual(x, limit), other, x)


def _logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:  # noqa: FBT001, FBT002
    """Torch's own translation; of 16-bit floats in float32, where sums do not overflow."""
    if dtype_of(x) in IN_LONG or not x.shape:
        return core.aten_logsumexp(x, dim, keepdim)
    wide = opset18.ReduceLogSumExp(cast(x, "float32"), dim, keepdims=keepdim)
    return cast(wide, dtype_of(x))


def _rrelu(x: Any, noise: Any, lower: Any = 1 / 8, upper: Any = 1 / 3, *rest: Any) -> Any:
    """Leaky ReLU with the mean slope, and the noise as it came; ``rest`` starts with training."""
    if any(rest):
        raise ValueError("rrelu in training draws its slopes at random: export it in evaluation")
    return computed(aten_formulas.rrelu, dtype_of(x), [x], lower, upper), noise


def _remainder(x: Any, y: Any) -> Any:
    """The remainder of an exact fmod, moved to the sign of ``y``, as Torch's kernels compute it.

    Torch's own translation, ``x - floor(x/y) · y``, is off by ``y`` where the quotient rounds.
    """
    tensor = x if isinstance(x, ir.Value) else y
    x, y = (v if isinstance(v, ir.Value) else number_as(v, tensor.dtype) for v in (x, y))
    if not _is_floating(tensor):
        return opset18.Mod(x, y)
    dtype = dtype_of(tensor)
    wide = compute_dtype(dtype)
    x, y = (value if wide == dtype else cast(value, wide) for value in (x, y))
    rest = opset18.Mod(x, y, fmod=1)
    zero = number_as(0.0, ONNX_TYPES[wide])
    unlike = opset18.Xor(opset18.Less(rest, zero), opset18.Less(y, zero))
    moves = opset18.And(opset18.Not(opset18.Equal(rest, zero)), unlike)
    found = opset18.Where(moves, opset18.Add(rest, y), rest)
    return found if wide == dtype else cast(found, dtype)
