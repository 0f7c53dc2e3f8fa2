"""The error bounds that several records share."""

from collections.abc import Mapping
from types import MappingProxyType

from gatewave.models.activation import DType, Tolerance

TAILS = (
    "Runtimes compute the gate to an absolute error, about 1e-7 in float32 and 1e-16 in float64; "
    "ONNX Runtime's sigmoid is 0 below -18 (-37). Where the gate is smaller than that, so is the "
    "result wrong, by up to that error times the inputs it is multiplied by."
)
"""The limit that all records with a gate share."""

# Largest shares of these bounds that ONNX Runtime 1.32 uses on CPU: 79 % of GATED in 16 bits and
# 71 % in float32, 66 % of SLOPE. See docs/accuracy.md.
GATED: Mapping[DType, Tolerance] = MappingProxyType(
    {
        "float16": Tolerance(ulp=1, atol=2e-7),
        "bfloat16": Tolerance(ulp=1, atol=2e-7),
        "float32": Tolerance(ulp=4, atol=2e-7),
        "float64": Tolerance(ulp=4, atol=1e-15),
    }
)
"""Bounds of products with a sigmoid, tanh or erf: runtimes have absolute errors there."""

SLOPE: Mapping[DType, Tolerance] = MappingProxyType(
    {
        "float16": Tolerance(ulp=1, atol=1e-6),
        "bfloat16": Tolerance(ulp=1, atol=1e-6),
        "float32": Tolerance(ulp=4, atol=1e-6),
        "float64": Tolerance(ulp=4, atol=5e-15),
    }
)
"""Bounds of slopes of ``u·s(u)``, which multiply the sigmoid's error by a polynomial."""

PRODUCT: Mapping[DType, Tolerance] = MappingProxyType(
    {
        "float16": Tolerance(ulp=0.5, atol=0),
        "bfloat16": Tolerance(ulp=0.5, atol=0),
        "float32": Tolerance(ulp=0.5, atol=0),
        "float64": Tolerance(ulp=0.5, atol=0),
    }
)
"""Bounds of one multiplication, which is correctly rounded."""
