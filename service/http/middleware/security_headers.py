"""Headers that restrict what browsers do with answers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""Headers of all answers. Computed answers have no others: with ``nosniff``, a browser runs no
script in JSON or safetensors, so a content policy would only cost time."""

REFERRER = (b"referrer-policy", b"no-referrer")

POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""Content security policy of all answers that are not pages."""

PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; font-src 'self' data:; img-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; worker-src blob:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'; script-src 'self'"
)
"""Content security policy of pages, to which the digests of their scripts are added."""

HTML = (b"content-type", b"text/html; charset=utf-8")
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


class SecurityHeaders:
    """Pure ASGI middleware that adds the headers to answers without them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        page: Message | None = None

        async def guarded(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                if HTML in message["headers"]:
                    page = message  # Its policy depends on the scripts in its body.
                    return
                message["headers"] = _with_policy(message["headers"], POLICY)
            elif page is not None:
                policy = page_policy(message.get("body", b""))
                page["headers"] = _with_policy(page["headers"], policy)
                started, page = page, None
                await send(started)
            await send(message)

        await self.app(scope, receive, guarded)


def page_policy(page: bytes) -> str:
    """Return the policy of ``page``, which allows its inline scripts by their digests."""
    digests = (hashlib.sha256(script).digest() for script in INLINE_SCRIPT.findall(page))
    return PAGE_POLICY + "".join(f" 'sha256-{base64.b64encode(d).decode()}'" for d in digests)


def _with_policy(headers: Iterable[tuple[bytes, bytes]], policy: str) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name for name, _ in given}
    ours = (*HEADERS, REFERRER, (b"content-security-policy", policy.encode()))
    return given + [header for header in ours if header[0] not in names]
