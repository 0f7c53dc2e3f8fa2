"""SwiGLU in LitServe, for ``python -m benchmarks.http --peer``.

    python3 -m venv PEERS && PEERS/bin/pip install litserve onnxruntime numpy
    python -m benchmarks.http --cases AB \
        --peer "litserve=PEERS/bin/python benchmarks/peers/litserve_server.py {port}"

The model is artifacts/swiglu-sigmoid.value.float32.onnx, as ours.
"""

import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort

MODEL = "artifacts/swiglu-sigmoid.value.float32.onnx"


class SwiGLU(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - the CPU
        self.session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])

    def decode_request(self, request: dict[str, Any]) -> dict[str, np.ndarray]:
        inputs = request["inputs"]
        return {name: np.array(values, np.float32) for name, values in inputs.items()}

    def predict(self, x: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(["y"], x)[0]

    def encode_response(self, output: np.ndarray) -> dict[str, list[float]]:
        return {"y": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(SwiGLU(api_path="/activate"), accelerator="cpu", fast_queue=True)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False)
