"""Runs models by the ONNX Runtime of whatever Python starts it; needs NumPy besides.

It reads a model after the other from stdin, a line of JSON each, and answers each with a line. A
model that brings the process down has no answer, from which the reader infers the crash. Only
the real stdout carries answers; output of native code goes to stderr.
"""

import base64
import json
import os
import sys

import numpy as np
import onnxruntime as ort


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    ort.set_default_logger_severity(4)  # errors are raised
    about = {
        "version": ort.__version__,
        "providers": ort.get_available_providers(),
        "built": ort.get_build_info(),
    }
    answers.write(json.dumps(about) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")


def _answer(request: dict) -> dict:  # type: ignore[type-arg]  # of JSON
    """Return the model's values, the reason for having no values, or the fact that it is loaded."""
    try:
        if request.get("schemas"):
            return {"schemas": _schemas()}
        if request.get("load"):
            _session(request)
            return {"loaded": True}
        values = _run(request)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common class
        return {"refused": str(error)}
    return {"values": values}


def _session(request: dict) -> ort.InferenceSession:  # type: ignore[type-arg]  # of JSON
    """The model, from a file or from the request, loaded as programs load it by default."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    if request.get("optimised") is False:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = request["path"] if "path" in request else base64.b64decode(request["model"])
    return ort.InferenceSession(content, options, providers=[request["provider"]])


def _schemas() -> list:  # type: ignore[type-arg]  # of JSON
    """The operators that ONNX Runtime itself defines."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # noqa: PLC0415 - seldom

    def ports(formal: list) -> list:  # type: ignore[type-arg]  # of ports
        kinds = [(port.typeStr, port.option.name) for port in formal]
        return [(kind, name == "Optional", name == "Variadic") for kind, name in kinds]

    return [
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


def _run(request: dict) -> list[float]:  # type: ignore[type-arg]  # of JSON
    session = _session(request)
    ports = session.get_inputs()
    arrays = [np.reshape(values, shape) for shape, values in request["inputs"]]
    arrays = arrays or [np.asarray(request["values"])] * len(ports)
    given = {
        port.name: array.astype(_numpy(port.type))
        for port, array in zip(ports, arrays, strict=True)
    }
    (result,) = session.run(None, given)
    return np.asarray(result, "float64").ravel().tolist()


def _numpy(declared: str) -> str:
    return {"tensor(float16)": "float16", "tensor(double)": "float64"}.get(declared, "float32")


if __name__ == "__main__":
    main()
