"""The limit of the stack: a bare ASGI app without computation."""

from __future__ import annotations

import functools
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
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
