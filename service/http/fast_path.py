"""Fast path: answers to requests straight from the connection, without ASGI and its task.

The fast path takes requests that an endpoint answers without a pause; there it doubles the requests
per second. It declines all others, and requests with errors: the application answers these. Both
ways lead through the same endpoint and the same pipeline, and give the same answers.
"""

from __future__ import annotations

import time

from gatewave.service.http.connection.head import Headers
from gatewave.service.http.connection.read_queue import Address, FastPath
from gatewave.service.http.endpoints import EndpointTable
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.observability import metrics
from gatewave.service.observability.access_log import LogRequest
from gatewave.service.observability.request_ids import HEADER_BYTES, identity_of
from gatewave.service.security.clients import RateLimiter, client_at
from gatewave.service.security.keys import Keys, presented
from gatewave.service.serving.memory import Client


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%s: %s\r\n" % header for header in headers])


_SAFE = _lines(HEADERS)


def answering(
    endpoints: EndpointTable,
    *,
    keys: Keys,
    log_request: LogRequest | None,
    most: int,
    rate: RateLimiter | None = None,
) -> FastPath:
    """Return the function with which connections answer requests on the fast path.

    Args:
        endpoints: The endpoints for POST.
        keys: Keys of the callers that are allowed.
        log_request: Writes the line of a request in the access log.
        most: The longest body, in bytes.
        rate: Limit on the requests of one client, if there is one.
    """

    def answer(  # noqa: PLR0917 - as `FastPath`
        path: str,
        headers: Headers,
        body: bytes,
        began: float,
        came: float,
        address: Address,  # noqa: ARG001 - for the limits of each client
    ) -> tuple[bytes, bytes] | None:
        endpoint = endpoints.find(path)
        # A path with escapes is decoded by the application.
        if endpoint is None or len(body) > most or "%" in path:
            return None
        try:
            if keys.required:
                keys.check(headers)
            by_name = dict(headers)
            answered = endpoint.fast_path(path, by_name, body, came)
        except Exception:  # noqa: BLE001 - the application meets the error again, and reports it
            return None
        if answered is None:
            return None
        content = b"".join(answered.parts)
        identity = identity_of(by_name.get(HEADER_BYTES))
        seconds = time.perf_counter() - began
        if log_request is not None:
            log_request(identity, "POST", path, 200, seconds)
        metrics.observe_http(endpoint.route, "POST", 200, seconds)
        head = b"content-type: %s\r\ncontent-length: %d\r\n%s%s%s: %s\r\n\r\n" % (
            answered.media_type,
            len(content),
            _lines(answered.headers) if answered.headers else b"",
            _SAFE,
            HEADER_BYTES,
            identity.encode(),
        )
        return head, content

    return answer if rate is None else _limited(answer, keys, rate)


def _limited(answer: FastPath, keys: Keys, rate: RateLimiter) -> FastPath:
    """Decline requests beyond ``rate``; the application then answers them with an error."""

    def limited(  # noqa: PLR0917 - as `FastPath`
        path: str, headers: Headers, body: bytes, began: float, came: float, address: Address
    ) -> tuple[bytes, bytes] | None:
        client = _client(keys, headers, address)
        answered = None
        if rate.has_room(client):
            answered = answer(path, headers, body, began, came, address)
        if answered is not None:
            rate.admit(client)
        return answered

    return limited


def _client(keys: Keys, headers: Headers, address: Address) -> Client:
    if keys.required:
        return presented(headers) or b""
    return client_at(address)
