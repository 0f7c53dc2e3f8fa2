"""Handlers of models that are compared, for `graphs/processes/worker.py`.

A worker holds several models, each under a key. It reports its peak memory after each request: the
difference is what a run has cost.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from gatewave.graphs.processes.messages import Array, Value
from gatewave.graphs.verify import instrumentation
from gatewave.graphs.verify.random_replacement import Fixed, fix
from gatewave.graphs.verify.sessions import OnnxRuntimeSession, ReferenceSession, Session, flat

FOLDER = "session.model_external_initializers_file_folder_path"
"""Option of ONNX Runtime: where a model that is given as bytes finds its external data."""

SPINNING = "session.intra_op.allow_spinning"
"""Option of ONNX Runtime: idle threads would spin while the other model runs."""

EDITS = ("extra", "fixed", "cut", "moved")

KIBIBYTE = 1024
"""Unit of `ru_maxrss` on Linux."""


def start() -> tuple[dict[str, Any], dict[str, Any]]:
    models = _Models()
    return _peak(), {"load": models.load, "run": models.run}


class _Models:
    def __init__(self) -> None:
        self._sessions: dict[int, Session] = {}

    def load(
        self, _: Mapping[str, Value], *, key: int, **model: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        self._sessions[key] = _loaded(model)
        return _peak(), {}

    def run(
        self, values: Mapping[str, Value], *, key: int
    ) -> tuple[dict[str, Any], dict[str, Array | None]]:
        results = flat(self._sessions[key].run(values))
        return _peak(), results


def _peak() -> dict[str, Any]:
    """Return the peak memory of this process so far, in bytes."""
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE}


def _loaded(model: Mapping[str, Any]) -> Session:
    """Load ``model``: path, runtime, library of kernels, instrumentation."""
    path = Path(model["path"])
    if model["runtime"] == "reference":
        # Its import defines a thousand classes, and most workers run ONNX Runtime only.
        from gatewave.graphs.verify.evaluator import evaluator  # noqa: PLC0415

        return ReferenceSession(evaluator(_edited(onnx.load(path), model)))
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry(SPINNING, "0")
    if model["library"]:
        options.register_custom_ops_library(model["library"])
    content: str | bytes = str(path)
    if any(model[edit] for edit in EDITS):
        # Only the graph is copied: the weights beside it stay where they are.
        edited = _edited(onnx.load(path, load_external_data=False), model)
        options.add_session_config_entry(FOLDER, str(path.parent.resolve()))
        content = edited.SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return OnnxRuntimeSession(session)


def _edited(proto: onnx.ModelProto, model: Mapping[str, Any]) -> onnx.ModelProto:
    if model["cut"]:
        instrumentation.cut(proto, instrumentation.Cut(**model["cut"]))
    if model["moved"]:
        instrumentation.multiply(proto, model["moved"])
    if model["fixed"]:
        fix(proto, Fixed(**model["fixed"]))
    instrumentation.extend(proto, model["extra"])
    return proto
