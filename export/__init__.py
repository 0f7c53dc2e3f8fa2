"""Export of activation records and Torch modules to ONNX."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["torch_translations"]


def __getattr__(name: str) -> Any:
    # Not before it is used: most of these rooms do without Torch.
    if name in __all__:
        return getattr(import_module("gatewave.export.torch.translations"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
