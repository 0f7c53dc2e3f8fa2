"""Limit on query strings, and removal of cookies, before the routes parse them."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.codecs.count_limits import MAX_QUERY_FIELDS
from gatewave.service.errors import LimitExceeded, ServiceError

COOKIE = b"cookie"


class BoundedQuery:
    """Pure ASGI middleware that rejects long queries and removes cookies.

    FastAPI parses the query and the cookies of each request, even if its route has no such
    parameters. The service uses no cookies. Python 3.11 and 3.12 parse a quoted cookie in quadratic
    time (CVE-2024-7592): 64 KiB take six seconds.

    Args:
        refuse: Returns the error answer of a path's protocol.
    """

    def __init__(self, app: ASGIApp, *, refuse: Callable[[str, ServiceError], ASGIApp]) -> None:
        self.app = app
        self.refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            count = scope["query_string"].count(b"&") + 1
            if count > MAX_QUERY_FIELDS:
                error = LimitExceeded.at("query", f"at most {MAX_QUERY_FIELDS} fields", count)
                await self.refuse(scope["path"], error)(scope, receive, send)
                return
            # In place: logs and metrics read the route from the same scope.
            scope["headers"] = [header for header in scope["headers"] if header[0] != COOKIE]
        await self.app(scope, receive, send)
