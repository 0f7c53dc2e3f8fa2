"""Valid requests in every format of the service, for load tests."""

import http.client
import json
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np

JSON = "application/json"
SAFETENSORS = "application/vnd.safetensors"
OCTETS = "application/octet-stream"
LENGTH = "Inference-Header-Content-Length"

DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "float16": "FP16",
    "bfloat16": "BF16",
}
SHORT = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}
"""Names of the dtypes in safetensors."""


class WholeConnection(http.client.HTTPConnection):
    """Connection that sends each request in one piece, unlike Python's own client."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.pieces = []

    def send(self, data):
        self.pieces.append(data)

    def getresponse(self):
        pieces, self.pieces = self.pieces, []
        super().send(b"".join(pieces))
        return super().getresponse()

    def close(self):
        self.pieces = []
        super().close()


@dataclass(frozen=True)
class Asked:
    """Request over HTTP.

    Attributes:
        status: Expected status of the answer.
    """

    path: str
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    method: str = "POST"
    status: int = 200

    def but(self, **changes):
        return replace(self, **changes)


def tensors(shape, dtype="float32", names=("a", "b")):
    kind = getattr(ml_dtypes, dtype, None) or np.dtype(dtype)
    count = int(np.prod(shape))
    return {name: np.linspace(-3, 3, count).reshape(shape).astype(kind) for name in names}


def in_json(count, activation="swiglu"):
    values = {name: tensor.tolist() for name, tensor in tensors((count,)).items()}
    document = {"activation": activation, "inputs": values}
    return Asked("/activate", json.dumps(document).encode(), {"Content-Type": JSON})


def in_safetensors(shape, dtype="float32", activation="swiglu", **metadata):
    names = ("x",) if activation == "sinc" else ("a", "b")
    header, data = {"__metadata__": {"activation": activation, **metadata}}, b""
    for name, tensor in tensors(shape, dtype, names).items():
        end = len(data) + tensor.nbytes
        header[name] = {
            "dtype": SHORT[dtype],
            "shape": list(shape),
            "data_offsets": [len(data), end],
        }
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = len(text).to_bytes(8, "little") + text + data
    return Asked("/activate", body, {"Content-Type": SAFETENSORS})


def in_oip(shape, dtype="float32", model="swiglu", *, binary=True, answer_binary=True):
    inputs, data = [], b""
    for name, tensor in tensors(shape, dtype).items():
        one = {"name": name, "shape": list(shape), "datatype": DATATYPES[dtype]}
        if binary:
            one["parameters"] = {"binary_data_size": tensor.nbytes}
            data += tensor.tobytes()
        else:
            one["data"] = tensor.astype(float).ravel().tolist()
        inputs.append(one)
    document = {"id": "1", "inputs": inputs}
    if answer_binary:
        document["parameters"] = {"binary_data_output": True}
    header = json.dumps(document).encode()
    said = {LENGTH: str(len(header)), "Content-Type": OCTETS} if binary else {"Content-Type": JSON}
    return Asked(f"/v2/models/{model}/infer", header + data, said)


def in_raw_body(count, model="sinc"):
    """Return a raw binary request: its body is the tensor of the model's only input."""
    body = np.linspace(-3, 3, count).astype(np.float32).tobytes()
    return Asked(f"/v2/models/{model}/infer", body, {LENGTH: "0", "Content-Type": OCTETS})


def in_strings(*items, model="words", count=None):
    """Return a request of raw BYTES with ``count`` in its shape."""
    data = b"".join(len(item).to_bytes(4, "little") + item for item in items)
    one = {"name": "x", "datatype": "BYTES", "shape": [len(items) if count is None else count]}
    one["parameters"] = {"binary_data_size": len(data)}
    header = json.dumps({"inputs": [one]}).encode()
    said = {LENGTH: str(len(header)), "Content-Type": OCTETS}
    return Asked(f"/v2/models/{model}/infer", header + data, said)


def get(path, status=200):
    return Asked(path, method="GET", status=status)
