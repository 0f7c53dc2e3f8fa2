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

SCALED_BY_B = {"SwiGLULinear", "GeGLU", "GeGLUTanh"}
"""Kernels with a first partial derivative that crosses zero as a multiple of the other input."""

INTRODUCTION = f"""\
# Kernels

<!-- Written by `python native/document.py` from the library and the records. -->

The native kernels are operators of the domain `{DOMAIN}`, for the stock ONNX Runtime
([ADR 17](adr/0017-kernels-as-custom-operators.md)). `make native` builds them:
`service/libgatewave.so` for the CPU, and, where there is nvcc, `service/libgatewave_cuda.so`.
[serving.md](serving.md#native-kernels) says how the service uses them,
[performance.md](performance.md) how fast they are.

## Operators

Each row is three operators, here of `Swish`:

- `Swish`: the value `y`.
- `SwishValueAndGrad`: `y`, then the partial derivative for each input.
- `SwishVJP`: takes `grad_y` after the inputs, and gives each partial derivative times that.

All of them are there in {", ".join(DTYPES)}. Inputs, `grad_y` and results have one type and one
shape, of any rank; shapes that differ are refused, nothing is broadcast. `alpha`, where there is
one, comes last: a scalar, of float64 where the tensors are, and else of float32. Formulas are
behind the operators' names.
"""

ACCURACY = """\
Every number of the type is in range: subnormal numbers, infinities and NaN, which stays NaN. At
infinity a product is a product, and NaN where it is infinity times 0
([ADR 8](adr/0008-values-at-infinity.md)); sinc gives its limit, 0.

## Accuracy

In float32 and float64 a result may differ from the exact one by

    max(ulp · ULP, near_zero · u · scale)

where ULP is the distance of neighbouring numbers at the exact result, and u is a rounding of 1:
2^-24 in float32, 2^-53 in float64. The second term is for the first partial derivative, where it
crosses zero though no input is 0; in a vector-Jacobian product its scale is multiplied by
|grad_y|. A dash says that there is no such place. Gates below e^-174 in float32 and e^-1416 in
float64 count as 0, whatever they are multiplied by.

float16 and bfloat16 are computed in float32, and the result is rounded once more. That is never
more than 1 ULP off (near zero, half of one and the second term). Of all 65,536 values it is the
nearest number for

- 99.9 % or more: values and partial derivatives of one input, alpha 1, 1.702, -1, 0 or 50;
- 99.6 % or more: those of two inputs, and vector-Jacobian products;
- 98.8 % or more: any of them, alpha 0.001.

The rest is where two roundings meet: the first makes a tie of what was nearly one, as, with a small
alpha, of x/2 (1 + αx/2) for each second subnormal x.

`native/tests` holds every instruction set to this, against references in wider floats: all values
of the 16-bit types, samples and edges of the wider ones; `make native-exhaustive` tries all of
float32."""

SETTINGS = table(
    ("entry", "meaning"),
    (
        (
            f"`{INSTRUCTIONS}`",
            (
                "the instruction set; the best, if it is not there. One that the processor has "
                "not is refused"
            ),
        ),
        (
            f"`{OPERATORS}`",
            (
                "the operators that the session needs, with commas between; all, if it is not "
                "there, which takes a millisecond longer"
            ),
        ),
    ),
)

USE = f"""\
## Instruction sets

`avx512`, `avx2` and `x86-64` on x86-64, `neon` on AArch64. All are in one library, which takes
the best that the processor has. Their results are within the same bounds, and may differ in the
last bits.

## In a program of your own

Any session takes the library. A model needs no function for its nodes then:

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

Two entries of the session's configuration are read, at `register_custom_ops_library`:

{SETTINGS}

The operator `Kernels`, with no inputs, gives JSON as a tensor of uint8: the instruction set,
those that there are, and the bounds above. The library asks for version 17 of ONNX Runtime's C
API, and is shown to load in 1.20 to 1.32. There are no Torch operators: these are for ONNX
Runtime alone.

## On CUDA

The same kernels are compiled for GPUs: machine code for sm_80 and sm_90, and PTX (compute_90) for
later ones. Their one instruction set is `cuda`. Tests have the host play their threads, and
compare that with the CPU's kernels, and read what nvcc made of them; they have not been run on a
GPU so far. `make bench-cuda`, on a machine with one, certifies and measures them. The service
runs one element on the GPU before it uses them, and computes function bodies where that fails."""


def described(library: Path) -> dict[str, Any]:
    """Return the description that the library gives of itself."""
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
            bounds = kernels[operator.op_type]
            near_zero = bounds["partials"]["near_zero"]
            scale = "|b|" if operator.op_type in SCALED_BY_B else "1"
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
    parser.add_argument("--check", action="store_true", help="only see whether the page is right")
    options = parser.parse_args()
    made = text(options.library)
    if options.check:
        raise SystemExit(made != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
