"""The reference evaluator of the onnx package, and an operator that it has not.

It computes with NumPy, node by node: slowly, and in every element type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class Erfc(OpRun):
    """1 - erf(z). No ONNX has it, but tf2onnx writes it, of TensorFlow's exact GELU."""

    op_domain = ""

    def _run(self, z: Any) -> tuple[Any]:
        return (_erfc(z).astype(z.dtype),)


_erfc = np.vectorize(math.erfc, otypes=[float])


def evaluator(
    model: str | onnx.ModelProto, operators: Sequence[type[OpRun]] = ()
) -> ReferenceEvaluator:
    """Runs ``model``, or what is in the file of that name, with these operators besides."""
    return ReferenceEvaluator(model, new_ops=[Erfc, *operators])


def running(
    path: str, outputs: Sequence[str], operators: Sequence[type[OpRun]] = ()
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function from the inputs of the model in ``path`` to these outputs, by name."""
    loaded = evaluator(path, operators)

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return dict(zip(outputs, loaded.run([*outputs], dict(inputs)), strict=True))

    return run
