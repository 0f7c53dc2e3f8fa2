"""Activations: Torch modules, and the records from which all other parts are derived.

Each name is imported from its file when it is first used, since Torch takes seconds to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatewave.models.activation import (
        DTYPES,
        Activation,
        DType,
        Operator,
        Parameter,
        Tolerance,
    )
    from gatewave.models.catalogue import ACTIVATIONS
    from gatewave.models.glu import GLU, Bilinear, GeGLU, ReGLU
    from gatewave.models.sigmoid import Sigmoid
    from gatewave.models.sinc import Sinc
    from gatewave.models.swiglu import SwiGLU
    from gatewave.models.swish import Swish

__all__ = [
    "ACTIVATIONS",
    "DTYPES",
    "GLU",
    "Activation",
    "Bilinear",
    "DType",
    "GeGLU",
    "Operator",
    "Parameter",
    "ReGLU",
    "Sigmoid",
    "Sinc",
    "SwiGLU",
    "Swish",
    "Tolerance",
]

HOMES = {
    "ACTIVATIONS": "catalogue",
    "GLU": "glu",
    "Bilinear": "glu",
    "GeGLU": "glu",
    "ReGLU": "glu",
    "Sigmoid": "sigmoid",
    "Sinc": "sinc",
    "SwiGLU": "swiglu",
    "Swish": "swish",
}
"""File of each name that is not in `activation`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES.get(name, 'activation')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
