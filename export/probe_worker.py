"""Runs models by the ONNX Runtime of whatever Python starts it; needs NumPy besides.

It reads a model after the other from stdin, a line of JSON each, and answers each with a line. A
model that brings the process down has no answer: that is what the reader then knows of it. Only
the real stdout carries answers; what native code prints goes to stderr.
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
    """The values that the model gives, or why it gives none."""
    try:
        values = _run(request)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common class
        return {"refused": str(error)}
    return {"values": values}


def _run(request: dict) -> list[float]:  # type: ignore[type-arg]  # of JSON
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        base64.b64decode(request["model"]), options, providers=[request["provider"]]
    )
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
