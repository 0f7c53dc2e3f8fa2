"""Activation functions from Torch to production.

Each public name is imported from its room when it is first used. ``import gatewave`` by itself
imports neither Torch nor ONNX Runtime, and neither the service nor work on graphs needs Torch:

* `ACTIVATIONS`, `Activation`, `Operator`: the records
* `models`: the records, and their Torch modules `SwiGLU`, `Sinc`, … (extra ``export``)
* `to_onnx`, `decomposed`: Torch modules as ONNX models (extra ``export``)
* `torch_translations`: corrected translations for `torch.onnx.export` (extra ``export``)
* `create_app`, `Settings`: the HTTP service
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gatewave import models
    from gatewave.export.operators import decomposed
    from gatewave.export.torch.to_onnx import to_onnx
    from gatewave.export.torch.translations import torch_translations
    from gatewave.models import ACTIVATIONS, Activation, Operator
    from gatewave.service.app import create_app
    from gatewave.service.settings import Settings

    __version__: str

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "Operator",
    "Settings",
    "__version__",
    "create_app",
    "decomposed",
    "models",
    "to_onnx",
    "torch_translations",
]

HOMES = {
    "ACTIVATIONS": "gatewave.models",
    "Activation": "gatewave.models",
    "Operator": "gatewave.models",
    "Settings": "gatewave.service.settings",
    "create_app": "gatewave.service.app",
    "decomposed": "gatewave.export.operators",
    "to_onnx": "gatewave.export.torch.to_onnx",
    "torch_translations": "gatewave.export.torch.translations",
}
"""Module of each public name that is no module itself."""

# ONNX Runtime reports to its makers since 1.29, unless this is set before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name == "models":
        return import_module("gatewave.models")
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - takes longer than all the rest

        return version("gatewave")
    raise AttributeError(f"module 'gatewave' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
