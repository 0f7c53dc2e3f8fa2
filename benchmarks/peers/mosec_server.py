"""SwiGLU in mosec, for ``python -m benchmarks.http --peer``.

    python3 -m venv PEERS && PEERS/bin/pip install mosec onnxruntime numpy orjson
    python -m benchmarks.http --cases AB \
        --peer "mosec=PEERS/bin/python benchmarks/peers/mosec_server.py --port {port}"

The model is artifacts/swiglu-sigmoid.value.float32.onnx, as ours.
"""

import numpy as np
import onnxruntime as ort
import orjson
from mosec import Server, Worker

MODEL = "artifacts/swiglu-sigmoid.value.float32.onnx"


class SwiGLU(Worker):
    def __init__(self) -> None:
        self.session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])

    def deserialize(self, data: bytes) -> dict[str, np.ndarray]:
        inputs = orjson.loads(data)["inputs"]
        return {name: np.array(values, np.float32) for name, values in inputs.items()}

    def forward(self, data: dict[str, np.ndarray]) -> np.ndarray:
        return self.session.run(["y"], data)[0]

    def serialize(self, data: np.ndarray) -> bytes:
        return orjson.dumps({"y": data}, option=orjson.OPT_SERIALIZE_NUMPY)


if __name__ == "__main__":
    server = Server()
    server.append_worker(SwiGLU, route="/activate")
    server.run()
