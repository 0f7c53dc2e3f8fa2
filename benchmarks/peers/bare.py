"""Bare ASGI application with ONNX Runtime: no validation, limits, metrics or keys."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
import safetensors.numpy


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer /activate in JSON, and /activate/raw in safetensors."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = _computed(scope["path"], body)
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


def _computed(path: str, body: bytes) -> bytes:
    if path == "/activate":
        inputs = orjson.loads(body)["inputs"]
        (y,) = _session().run(None, {n: np.array(v, np.float32) for n, v in inputs.items()})
        return orjson.dumps({"outputs": {"y": y}}, option=orjson.OPT_SERIALIZE_NUMPY)
    if path == "/activate/raw":
        (y,) = _session().run(None, safetensors.numpy.load(body))
        return safetensors.numpy.save({"y": y})
    return b""


@functools.cache
def _session() -> ort.InferenceSession:
    folder = Path(os.environ.get("GATEWAVE_ARTIFACTS", "artifacts"))
    model = folder / "swiglu-sigmoid.value.float32.onnx"
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])
