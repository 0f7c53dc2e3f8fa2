"""Handlers of an ONNX Runtime that is probed, for `graphs/processes/worker.py`.

They run in any Python with ONNX Runtime and NumPy, which may have neither this package nor
ml_dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

ProbeResponse = tuple[dict[str, Any], dict[str, Any]]
"""A result in JSON, and values."""

ELEMENT_TYPES = {"tensor(float16)": "float16", "tensor(double)": "float64"}
"""Types of inputs other than float32."""


def start() -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    ort.set_default_logger_severity(4)  # errors are raised
    about = {
        "version": ort.__version__,
        "providers": ort.get_available_providers(),
        "built": ort.get_build_info(),
    }
    return about, {"load": load, "run": run, "schemas": schemas}


def load(
    values: Mapping[str, Any], *, provider: str, path: str | None = None, optimised: bool = True
) -> ProbeResponse:
    """Load the model in ``path``, or else in the value ``model``, and do not run it."""
    _session(values, provider, path, optimised=optimised)
    return {}, {}


def run(values: Mapping[str, Any], *, provider: str, default: list[float]) -> ProbeResponse:
    """Run the model in the value ``model``, which has one output.

    The other values are its inputs, in order. Without them, each input is ``default``.
    """
    session = _session(values, provider)
    ports = session.get_inputs()
    given = [array for name, array in values.items() if name != "model"]
    arrays = given or [np.asarray(default)] * len(ports)
    feeds = {
        port.name: array.astype(ELEMENT_TYPES.get(port.type, "float32"))
        for port, array in zip(ports, arrays, strict=True)
    }
    (result,) = session.run(None, feeds)
    return {}, {"y": np.asarray(result, "float64")}


def schemas(_: Mapping[str, Any]) -> ProbeResponse:
    """Return the schemas of the operators that ONNX Runtime itself defines."""
    # A private module: the public one has no function for schemas (seen in 1.32.0).
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - seldom

    def ports(formal: list[Any]) -> list[tuple[str, bool, bool]]:
        kinds = [(port.typeStr, port.option.name) for port in formal]
        return [(kind, name == "Optional", name == "Variadic") for kind, name in kinds]

    found = [
        {
            "name": schema.name,
            "domain": schema.domain,
            "inputs": ports(schema.inputs),
            "outputs": ports(schema.outputs),
            "variables": {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints},
            "required": [name for name, a in schema.attributes.items() if a.required],
            "attributes": [*schema.attributes],
        }
        for schema in state.get_all_operator_schema()
        if schema.domain == "com.microsoft" and not schema.deprecated
    ]
    return {"schemas": found}, {}


def _session(
    values: Mapping[str, Any], provider: str, path: str | None = None, *, optimised: bool = True
) -> ort.InferenceSession:
    """Load the model as programs do by default, but with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = values["model"].tobytes() if path is None else path
    return ort.InferenceSession(content, options, providers=[provider])
