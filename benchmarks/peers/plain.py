"""Plain route with FastAPI, pydantic and NumPy."""

from __future__ import annotations

import numpy as np
import safetensors.numpy
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel


class Inputs(BaseModel):
    a: list[float]
    b: list[float]


class Activate(BaseModel):
    activation: str
    inputs: Inputs


class Activated(BaseModel):
    y: list[float]


app = FastAPI()


@app.post("/activate")
def activate(request: Activate) -> Activated:
    a = np.array(request.inputs.a, np.float32)
    b = np.array(request.inputs.b, np.float32)
    return Activated(y=_swiglu(a, b).tolist())


@app.post("/activate/raw")
async def activate_raw(request: Request) -> Response:
    inputs = safetensors.numpy.load(await request.body())
    return Response(safetensors.numpy.save({"y": _swiglu(inputs["a"], inputs["b"])}))


def _swiglu(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a / (1 + np.exp(-a)) / (1 + np.exp(-b))
