"""Requests that are answered as soon as they are read, past the application and its tasks.

That is for what is small and plain, and asks for what is computed in microseconds; there it makes
the service twice as fast. Whatever is else, or wrong, is declined: the application answers it, and
says what is wrong with it. Both ways lead to the same endpoints, and through the same words of
`gatewave.service.activate.messages` and `gatewave.service.oip`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gatewave.service.http.connection.head import Headers
from gatewave.service.http.connection.read_queue import Address, FastPath
from gatewave.service.http.exchange import Endpoint
from gatewave.service.http.middleware.security_headers import HEADERS
from gatewave.service.observability import metrics
from gatewave.service.observability.access_log import LogRequest
from gatewave.service.observability.request_ids import HEADER_BYTES, identity_of
from gatewave.service.security.clients import RateLimiter, client_at
from gatewave.service.security.keys import Keys, presented
from gatewave.service.serving.memory import Client

_SAFE = b"".join(b"%s: %s\r\n" % header for header in HEADERS)


def answering(
    endpoint_of: Callable[[str], Endpoint | None],
    *,
    keys: Keys,
    log_request: LogRequest | None,
    most: int,
    rate: RateLimiter | None = None,
) -> FastPath:
    """Return a function that answers requests which need an endpoint only.

    Args:
        endpoint_of: The endpoint for POST to a path, if there is one.
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
        endpoint = endpoint_of(path)
        if endpoint is None or len(body) > most or "%" in path:
            return None
        try:
            if keys.required:
                keys.check(headers)
            said = dict(headers)
            answered = endpoint.fast_path(path, said, body, came)
        except Exception:  # noqa: BLE001 - the application will meet it again, and say so
            return None
        if answered is None:
            return None
        kind, content = answered
        identity = identity_of(said.get(HEADER_BYTES))
        seconds = time.perf_counter() - began
        if log_request is not None:
            log_request(identity, "POST", path, 200, seconds)
        metrics.observe_http(endpoint.route, "POST", 200, seconds)
        head = b"content-type: %s\r\ncontent-length: %d\r\n%s%s: %s\r\n\r\n" % (
            kind,
            len(content),
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
