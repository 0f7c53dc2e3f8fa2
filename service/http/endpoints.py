"""Table of the endpoints that answer without FastAPI's routing, which takes 100 µs a request.

The table is used in three places: before FastAPI's routes (`EndpointMiddleware`), by the routes
themselves, which document the endpoints in OpenAPI (`EndpointResponse`), and by the fast path.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gatewave.service.errors import NameUnknown, ServiceError
from gatewave.service.http import problems
from gatewave.service.http.exchange import Exchange
from gatewave.service.http.paths import ROUTE
from gatewave.service.serving.protocol import Answer


class Endpoint(ABC):
    """Endpoint for POST requests.

    Attributes:
        route: The template of its paths, with at most one variable part in braces.
    """

    route: str

    async def __call__(self, exchange: Exchange) -> None:
        """Answer the request, or report its error."""
        try:
            await self.answer(exchange)
        except ServiceError as error:
            await problems.reply(exchange, error)

    @abstractmethod
    async def answer(self, exchange: Exchange) -> None:
        """Answer the request.

        Raises:
            ServiceError: The request has no answer.
        """

    @abstractmethod
    def fast_path(
        self, path: str, headers: Mapping[bytes, bytes], body: bytes, arrived: float
    ) -> Answer | None:
        """Return the answer to a small request, without a pause.

        Args:
            path: The path of the request.
            headers: The headers, by lower-case name.
            body: The complete body.
            arrived: The time of arrival, in seconds of `time.perf_counter`.

        Returns:
            The answer, equal to that of `answer`; None declines the request.

        Raises:
            ServiceError: The request is wrong. The caller declines it, as for None.
            NotPlain: The quick reader does not read the body.
        """


class EndpointTable:
    """Endpoints by path."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_path: dict[str, Endpoint] = {}
        self._by_template: list[tuple[str, str, Endpoint]] = []
        for endpoint in endpoints:
            start, brace, rest = endpoint.route.partition("{")
            if brace:
                # The variable part may contain slashes: a version, or a wrong name.
                self._by_template.append((start, rest.rpartition("}")[2], endpoint))
            else:
                self._by_path[endpoint.route] = endpoint

    def find(self, path: str) -> Endpoint | None:
        """Return the endpoint for ``path``, if the table has one."""
        endpoint = self._by_path.get(path)
        if endpoint is not None:
            return endpoint
        for start, end, endpoint in self._by_template:
            if path.startswith(start) and path.endswith(end):
                return endpoint
        return None


class EndpointMiddleware:
    """ASGI middleware that sends POST requests to the endpoints of a table."""

    def __init__(self, app: ASGIApp, *, endpoints: EndpointTable) -> None:
        self.app = app
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.endpoints.find(scope["path"])
            if endpoint is not None:
                scope[ROUTE] = endpoint.route
                await endpoint(Exchange(scope, receive, send))
                return
        await self.app(scope, receive, send)


class EndpointResponse(Response):
    """Response of a route of FastAPI that the endpoint for its path sends itself."""

    def __init__(self, endpoints: EndpointTable) -> None:
        super().__init__()
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.endpoints.find(scope["path"])
        if endpoint is None:
            raise NameUnknown.at("path", "the path of an endpoint", scope["path"])
        await endpoint(Exchange(scope, receive, send))
