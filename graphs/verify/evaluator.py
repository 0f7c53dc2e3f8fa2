"""The reference evaluator of the onnx package, with missing and wrong operators replaced.

It computes with NumPy, node by node: slowly, and in every element type. An operator is replaced
here only if the text of the standard defines the result in full, and the evaluator differs from it.
All differences from ONNX Runtime are listed in docs/evaluator.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops import op_hardmax, op_softmax
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25


class Erfc(OpRun):
    """1 - erf(z), which no version of ONNX has. tf2onnx writes it for TensorFlow's exact GELU."""

    op_domain = ""

    def _run(self, z: Any) -> tuple[Any]:
        return (_erfc(z).astype(z.dtype),)


_erfc = np.vectorize(math.erfc, otypes=[float])


class Erf(OpRun):
    """Erf in the precision of its input: onnx 1.23.2 computes it in float32 only."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any]:
        return (_erf(x).astype(x.dtype),)


_erf = np.vectorize(math.erf, otypes=[float])

TRAINING_MODE = 14
"""First version of BatchNormalization with the attribute `training_mode`."""


class BatchNormalization(OpRun):
    """BatchNormalization at every opset, in the mode that the node asks for.

    onnx 1.23.2 normalises with the statistics of the batch at opsets 6 to 13, see its
    op_batch_normalization.py: BatchNormalization_9 takes the mode from `momentum`, which has a
    default and so is never None; BatchNormalization_6 serves opset 7 too, which has no `is_test`.
    By the text of versions 7 and 9 it is the test mode where Y is the only output.
    """

    op_domain = ""

    def _run(
        self,
        x: Any,
        scale: Any,
        bias: Any,
        mean: Any,
        var: Any,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        training_mode: int = 0,
        **_: int,
    ) -> tuple[Any, ...]:
        outputs = [name for name in self.onnx_node.output if name]
        version = self.run_params["opsets"][""]
        if not (training_mode if version >= TRAINING_MODE else len(outputs) > 1):
            return (_normalized(x, scale, bias, (mean, var), epsilon),)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        # Version 15 asks for float32 sums of shorter floats; float64 is at least that.
        wide = x.astype(np.float64)
        batch = wide.mean(axis=axes), wide.var(axis=axes)
        moved = [
            (old * momentum + new * (1 - momentum)).astype(old.dtype)
            for old, new in zip((mean, var), batch, strict=True)
        ]
        y = _normalized(x, scale, bias, batch, epsilon)
        saved = [values.astype(mean.dtype) for values in batch]
        found = (y, *moved, *saved)
        return found[: max(1, len(self.onnx_node.output))]


def _normalized(x: Any, scale: Any, bias: Any, statistics: Sequence[Any], epsilon: float) -> Any:
    """Return Y of the standard; up to opset 8, scale and statistics may be given per position."""
    ones = (1,) * (x.ndim - 1 - scale.ndim)
    scale, bias, mean, var = (v.reshape(*v.shape, *ones) for v in (scale, bias, *statistics))
    return (scale * (x - mean) / np.sqrt(var + epsilon) + bias).astype(x.dtype)


class GlobalMaxPool(OpRun):
    """Maximum over all axes but the first two; the reduced axes keep length 1.

    onnx 1.23.2 always reduces two axes, starting at the rank minus two, which is right for images
    only (`onnx/reference/ops/op_global_max_pool.py`).
    """

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class DequantizeLinear(DequantizeLinear_25):
    """DequantizeLinear at every opset: onnx 1.23.2 has it only from opset 19 on.

    Earlier versions equal the newest one without its additional attributes.
    """

    op_domain = ""


ONE_AXIS = 13
"""First version of Softmax and its kin that computes along a single axis."""


class Softmax(op_softmax.Softmax):
    """Softmax at every opset; see `_along`."""

    op_domain = ""

    def _run(self, X: Any, axis: int | None = None) -> tuple[Any]:
        return _along(self, X, axis, super()._run)


class LogSoftmax(op_softmax.Softmax):
    """LogSoftmax at every opset; see `_along`.

    onnx 1.23.2 computes the logarithm of probabilities, which may have underflowed to 0. This class
    subtracts the logarithm of the sum instead.
    """

    op_domain = ""

    def _run(self, X: Any, axis: int | None = None) -> tuple[Any]:
        return _along(self, X, axis, self._logarithm)

    def _logarithm(self, x: Any, axis: int | None) -> tuple[Any]:
        axis = getattr(self, "axis", -1) if axis is None else axis  # set from the node
        shifted = x - x.max(axis=axis, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return ((shifted - total).astype(x.dtype),)


class Hardmax(op_hardmax.Hardmax):
    """Hardmax at every opset; see `_along`."""

    op_domain = ""

    def _run(self, x: Any, axis: int | None = None) -> tuple[Any]:
        return _along(self, x, axis, super()._run)


def _along(op: OpRun, x: Any, axis: int | None, compute: Callable[..., tuple[Any]]) -> tuple[Any]:
    """Compute along an axis; up to opset 12, along that axis and all later ones as one.

    By the text of versions 1 and 11 the input is coerced into two axes, and `axis` is 1 by default;
    onnx 1.23.2 has the rule and the default of version 13 at every opset.
    """
    if op.run_params["opsets"][""] >= ONE_AXIS or not x.size:
        return compute(x, axis=axis)
    given = [attribute.i for attribute in op.onnx_node.attribute if attribute.name == "axis"]
    first = given[0] if given else 1
    first += x.ndim if first < 0 else 0
    (y,) = compute(x.reshape(math.prod(x.shape[:first]), -1), axis=1)
    return (y.reshape(x.shape),)


OPERATORS: tuple[type[OpRun], ...] = (
    *(Erfc, Erf, BatchNormalization, GlobalMaxPool, DequantizeLinear),
    *(Softmax, LogSoftmax, Hardmax),
)
"""The replacements for the package's operators."""


def evaluator(
    model: str | onnx.ModelProto, operators: Sequence[type[OpRun]] = ()
) -> ReferenceEvaluator:
    """Return an evaluator of ``model``, or of the file of that name, with additional operators."""
    return ReferenceEvaluator(model, new_ops=[*OPERATORS, *operators])


def running(
    path: str, outputs: Sequence[str], operators: Sequence[type[OpRun]] = ()
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Return a function from the inputs of the model in ``path`` to ``outputs``, by name."""
    loaded = evaluator(path, operators)

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return dict(zip(outputs, loaded.run([*outputs], dict(inputs)), strict=True))

    return run
