"""Echo server, the limit of the stack: a bare ASGI application without computation."""

from __future__ import annotations

import functools
from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Drop the body, and return the number of bytes in the path."""
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
