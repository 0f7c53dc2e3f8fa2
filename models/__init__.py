"""Activations: the records from which all other parts are derived, and their Torch modules.

Each name is imported from its file when it is first used: the records import neither Torch nor
SymPy, and the modules import Torch, which takes seconds.
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
    from gatewave.models.torch.glu import GLU, Bilinear, GeGLU, ReGLU
    from gatewave.models.torch.sigmoid import Sigmoid
    from gatewave.models.torch.sinc import Sinc
    from gatewave.models.torch.swiglu import SwiGLU
    from gatewave.models.torch.swish import Swish

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

RECORDS = ("Activation", "DType", "DTYPES", "Operator", "Parameter", "Tolerance")
"""The names that are in `activation`; the others are the catalogue, and classes of its records."""


def __getattr__(name: str) -> Any:
    if name in RECORDS:
        return getattr(import_module(f"{__name__}.activation"), name)
    if name[0].isupper():  # the name of a submodule is not, and must be left to the import system
        catalogue = import_module(f"{__name__}.catalogue")
        if name == "ACTIVATIONS":
            return catalogue.ACTIVATIONS
        if name in catalogue.CLASSES:
            return catalogue.CLASSES[name].module_class
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
