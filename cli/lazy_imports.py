"""Imports of libraries that are loaded when they are first used.

onnx_ir imports SymPy for arithmetic on symbolic dimensions, such as ``n + 1``. Commands read, write
and compare such dimensions, and never calculate with them. With onnx_ir 1.1 and SymPy 1.14, those
470 modules take half of the processor time of ``import onnx_ir``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType

LAZY = frozenset({"sympy", "onnx_ir._symbolic_shapes"})
"""SymPy, and the module of onnx_ir that reads attributes of SymPy when it is imported."""


class LazyFinder:
    """Finder of the modules in `LAZY`: each is executed when an attribute of it is first read."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in LAZY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def install() -> None:
    """Let this process import the modules in `LAZY` lazily; loaded ones stay as they are."""
    if LazyFinder not in sys.meta_path:
        sys.meta_path.insert(0, LazyFinder)
