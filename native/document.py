"""Generator of `docs/kernels.md`: the formula and the accuracy of each kernel.

The library describes itself, and the page is written from this description.

    python native/document.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime as ort

from gatewave.export.markdown import page, table
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models import ACTIVATIONS, DTYPES
from gatewave.service.onnx.kernels import DESCRIPTION, INSTRUCTIONS, OPERATORS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "kernels.md"
LIBRARY = ROOT / "service" / "libgatewave.so"

HEADER = ("operator", "inputs", "range", "value, ULP", "partials, ULP", "near zero", "scale")

INTRODUCTION = f"""\
# Kernels

<!-- Written by `python native/document.py` from the library and the records. -->

The native kernels are operators of the domain `{DOMAIN}` for the stock ONNX Runtime
([ADR 17](adr/0017-kernels-as-custom-operators.md)). `make native` builds them:
`service/libgatewave.so` for the CPU and, with nvcc, `service/libgatewave_cuda.so`.
[serving.md](serving.md#native-kernels) describes their use in the service,
[performance.md](performance.md) their speed.

## Operators

Each row of the table is three operators. For `Swish` they are:

- `Swish`: the value `y`.
- `SwishValueAndGrad`: `y`, then the partial derivative for each input.
- `SwishVJP`: takes `grad_y` after the inputs, and returns each partial derivative times `grad_y`.

All of them exist in {", ".join(DTYPES)}. Inputs, `grad_y` and results have the same type and the
same shape, of any rank. Different shapes are rejected; there is no broadcasting. `alpha` is the
last input: a scalar, float64 for float64 tensors and float32 otherwise. The links lead to the
formulas. """

ACCURACY = """\
Every number of the type is in range, including subnormal numbers and infinities. NaN stays NaN. At
infinity, gated units return the IEEE product, which is NaN for infinity times 0
([ADR 8](adr/0008-values-at-infinity.md)). Sinc returns its limit, 0.

## Accuracy

In float32 and float64, a result may differ from the exact one by

    max(ulp · ULP, near_zero · u · scale)

ULP is the distance between neighbouring numbers at the exact result. u is the unit roundoff: 2^-24
in float32, 2^-53 in float64. The second term applies to the first partial derivative, near zeros at
which no input is 0. In a vector-Jacobian product, its scale is multiplied by |grad_y|. A dash means
that there is no such zero. Gates below e^-174 in float32 and e^-1416 in float64 become 0, whatever
their factor.

float16 and bfloat16 are computed in float32, and the result is rounded once more. The error is at
most 1 ULP (near zero, half a ULP and the second term). Of all 65,536 values, the result is the
nearest number for

- 99.9 % or more: values and partial derivatives of one input, alpha 1, 1.702, -1, 0 or 50;
- 99.6 % or more: those of two inputs, and vector-Jacobian products;
- 98.8 % or more: any of them, alpha 0.001.

The other results suffer from double rounding: the first rounding turns a near tie into a tie. With
a small alpha, this happens to x/2 (1 + αx/2) for every second subnormal x.

`native/tests` checks these bounds for every instruction set, against references in wider floats:
all values of the 16-bit types, and samples and edge cases of the wider types. `make
native-exhaustive` checks all float32 values."""

SETTINGS = table(
    ("entry", "meaning"),
    (
        (
            f"`{INSTRUCTIONS}`",
            (
                "the instruction set; by default, the best that the processor supports. An "
                "unsupported one is rejected"
            ),
        ),
        (
            f"`{OPERATORS}`",
            (
                "the operators that the session needs, separated by commas; by default all, "
                "which takes a millisecond longer"
            ),
        ),
    ),
)

USE = f"""\
## Instruction sets

`avx512`, `avx2` and `x86-64` on x86-64, `neon` on AArch64. One library contains all of them and
selects the best that the processor supports. The same bounds apply to all; their results may differ
in the last bits.

## In your program

Any session of ONNX Runtime can load the library. A model then needs no function bodies for its
nodes:

```python
import numpy as np
import onnxruntime as ort

options = ort.SessionOptions()
options.add_session_config_entry("{OPERATORS}", "SwiGLULinear")
options.register_custom_ops_library("service/libgatewave.so")
session = ort.InferenceSession("artifacts/swiglu-linear.value.float32.onnx", options)
a, b = np.float32([0.5, -1]), np.float32([1, -1])
alpha = np.array(1, np.float32)
(y,) = session.run(None, {{"a": a, "b": b, "alpha": alpha}})
```

`register_custom_ops_library` reads two entries of the session's configuration:

{SETTINGS}

The operator `Kernels` has no inputs and returns JSON as a tensor of uint8: the instruction set in
use, the available ones, and the bounds above. The library needs version 17 of ONNX Runtime's C API;
tests load it in ONNX Runtime 1.20 to 1.32. There are no Torch operators.

## On CUDA

The same kernels are compiled for GPUs: machine code for sm_80 and sm_90, and PTX (compute_90) for
later GPUs. Their only instruction set is `cuda`. Tests emulate their threads on the host, compare
the results with the CPU kernels, and inspect nvcc's output. They have not been run on a GPU so far.
`make bench-cuda` certifies and measures them on a machine with a GPU. The service runs one element
on the GPU before it uses them, and falls back to function bodies if that fails."""


def described(library: Path) -> dict[str, Any]:
    """Return the library's description of its kernels."""
    options = ort.SessionOptions()
    options.add_session_config_entry(OPERATORS, "Kernels")
    options.register_custom_ops_library(str(library))
    session = ort.InferenceSession(DESCRIPTION, options, providers=["CPUExecutionProvider"])
    (text,) = session.run(None, {})
    about: dict[str, Any] = json.loads(text.tobytes())
    return about


def text(library: Path) -> str:
    """Return the text of the page."""
    rows = _rows(described(library)["kernels"])
    return page([INTRODUCTION.rstrip(), table(HEADER, rows), ACCURACY, USE])


def _rows(kernels: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for activation in ACTIVATIONS.values():
        for operator in activation.operators:
            if operator.op_type not in kernels:
                continue
            bounds = kernels[operator.op_type]
            near_zero = bounds["partials"]["near_zero"]
            scale = "|b|" if "b" in operator.scale else "1"
            first, last = activation.domain
            yield (
                f"[{operator.op_type}](activations.md#{activation.title.lower()})",
                ", ".join((*activation.inputs, *operator.reals)),
                f"{_limit(first)} to {_limit(last)}",
                f"{bounds['value']['ulp']:g}",
                f"{bounds['partials']['ulp']:g}",
                f"{near_zero:g}" if near_zero else "—",
                scale if near_zero else "—",
            )


def _limit(number: float) -> str:
    return f"{number:g}".replace("inf", "∞")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, default=LIBRARY)
    parser.add_argument("--check", action="store_true", help="only compare the page")
    options = parser.parse_args()
    made = text(options.library)
    if options.check:
        raise SystemExit(made != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
