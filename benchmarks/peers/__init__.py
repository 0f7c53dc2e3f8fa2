"""What the service is measured against: an echo, and the route that one writes first."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import safetensors.numpy
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A bare ASGI app: it drops the body, and returns as many bytes as the path says."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    answer = _answer(int(scope["path"][1:] or 0))
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@functools.cache
def _answer(size: int) -> bytes:
    return bytes(size)


class Inputs(BaseModel):
    a: list[float]
    b: list[float]


class Activate(BaseModel):
    activation: str
    inputs: Inputs


class Activated(BaseModel):
    y: list[float]


plain = FastAPI()


@plain.post("/activate")
def activate(request: Activate) -> Activated:
    a = np.array(request.inputs.a, np.float32)
    b = np.array(request.inputs.b, np.float32)
    return Activated(y=_swiglu(a, b).tolist())


@plain.post("/activate/raw")
async def activate_raw(request: Request) -> Response:
    inputs = safetensors.numpy.load(await request.body())
    return Response(safetensors.numpy.save({"y": _swiglu(inputs["a"], inputs["b"])}))


def _swiglu(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / (1 + np.exp(-a)) / (1 + np.exp(-b))
