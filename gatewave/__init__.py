"""Activation functions from Torch to production.

The public names; each is imported from its room when it is first used, so that serving needs no
Torch:

* `ACTIVATIONS`, `Activation`, `Operator`: the records (extra ``export``)
* `to_onnx`, `decomposed`: Torch modules as ONNX models (extra ``export``)
* `torch_translations`: Torch's sinc, SiLU and GLU mended for `torch.onnx.export` (extra ``export``)
* `create_app`, `Settings`: the HTTP service
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import service as service  # first of all: it switches ONNX Runtime's telemetry off

ROOMS = {
    "ACTIVATIONS": "models",
    "Activation": "models",
    "Operator": "models",
    "Settings": "service.settings",
    "create_app": "service.app",
    "decomposed": "export.graph",
    "to_onnx": "export.graph",
    "torch_translations": "export.translations",
}

__all__ = [  # noqa: PLE0604 - the names above, in order
    *sorted(ROOMS)
]


def __getattr__(name: str) -> Any:
    if name in ROOMS:
        return getattr(import_module(ROOMS[name]), name)
    raise AttributeError(f"module 'gatewave' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS})
