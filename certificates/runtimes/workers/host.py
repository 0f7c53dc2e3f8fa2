"""Handlers of a runtime's adapter, for `graphs/processes/worker.py`.

An adapter is a file of this folder with two functions: ``versions()``, by package, and
``load(path, inputs, outputs)``, which returns a function from arrays by name to arrays by name.

This file imports nothing of this package, and most adapters do not: they run in the environment of
their runtime, which has NumPy and ml_dtypes. An adapter of a runtime without a list of requirements
runs in our own environment, and may import the package.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def start(adapter: str, *options: str) -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    """Import the adapter; ``options`` are further arguments of its `load`."""
    session = _Host(adapter, options)
    about = {"versions": session.adapter.versions()}
    return about, {"load": session.load, "run": session.run}


class _Host:
    """The model that was loaded last."""

    def __init__(self, adapter: str, options: tuple[str, ...]) -> None:
        self.adapter = _adapter(adapter)
        self._options = options
        self._run: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
        self._has_sequences = False

    def load(
        self,
        _: Mapping[str, Any],
        *,
        path: str,
        inputs: list[str],
        outputs: list[str],
        sequences: bool,
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        # The earlier model is freed first: both may not fit into memory.
        self._run = None
        self._run = self.adapter.load(path, inputs, outputs, *self._options)
        self._has_sequences = sequences
        return {}, {}

    def run(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        if self._run is None:
            raise RuntimeError("no model is loaded")
        results = self._run(values)
        for name, value in results.items():
            if not self._has_sequences and not hasattr(value, "dtype"):
                raise TypeError(f"output {name} is {type(value).__name__}, and no tensor")
        return {}, results


def _adapter(name: str) -> Any:
    """Import the file; its folder has a ``torch.py`` and stays off the search path."""
    spec = importlib.util.spec_from_file_location("gatewave_adapter", Path(__file__).parent / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
