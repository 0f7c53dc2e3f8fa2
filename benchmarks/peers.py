"""What the service is measured against: an echo, and the route that one writes first."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """A bare ASGI app: it reads the body, and returns half of it, as one output of two inputs."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = body[: len(body) // 2]
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Inputs(BaseModel):
    a: list[float]
    b: list[float]


class Request(BaseModel):
    activation: str
    inputs: Inputs


class Response(BaseModel):
    y: list[float]


plain = FastAPI()


@plain.post("/activate")
def activate(request: Request) -> Response:
    a = np.array(request.inputs.a, np.float32)
    b = np.array(request.inputs.b, np.float32)
    y = a / (1 + np.exp(-a)) / (1 + np.exp(-b))
    return Response(y=y.tolist())
