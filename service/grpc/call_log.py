"""Observation of one call: its request id, its metrics, its trace and its log line."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any

from grpc import StatusCode

from gatewave.service.observability import metrics
from gatewave.service.observability.request_ids import ACCEPTABLE_ID, HEADER, request_id
from gatewave.service.state import ServiceState

SERVER_ERRORS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""Statuses that OpenTelemetry's conventions for RPC mark as errors of a server span. The others
are the caller's errors."""

Headers = list[tuple[bytes, bytes]]

log = logging.getLogger(__name__)


class CallLog:
    """Record of one call, from its metadata to its status.

    Attributes:
        path: ``/service/Method``, or one name for all unknown paths.
        id: The request id: the caller's own if it is suitable for logs, otherwise a new one.
    """

    def __init__(self, state: ServiceState, path: str, metadata: Iterable[tuple[str, Any]]) -> None:
        self.path = path
        self.began = time.perf_counter()
        self.access_log = state.settings.access_log
        headers = headers_of(metadata)
        self.id = _id_of(headers)
        self._token = request_id.set(self.id)
        tracer = state.tracer
        self._trace = None if tracer is None else tracer.begin(path.lstrip("/"), headers)

    def close(self, status: StatusCode) -> None:
        """Record the end of the call.

        It must run in the context of the constructor, to reset its request id.
        """
        seconds = time.perf_counter() - self.began
        metrics.observe_grpc(self.path, status.name, seconds)
        if self.access_log:
            fields = {
                "path": self.path,
                "status": status.name,
                "milliseconds": round(seconds * 1e3, 3),
            }
            log.info("request", extra=fields)
        if self._trace is not None:
            name = self.path.lstrip("/")
            failed = status in SERVER_ERRORS
            self._trace.end(name, failed=failed, attributes=self._attributes(status))
        request_id.reset(self._token)

    def _attributes(self, status: StatusCode) -> dict[str, str | int]:
        service, _, method = self.path.lstrip("/").partition("/")
        code: int = status.value[0]
        return {
            "rpc.system": "grpc",
            "rpc.service": service,
            # OpenTelemetry's name for a method that the server does not know.
            "rpc.method": method or "_OTHER",
            "rpc.grpc.status_code": code,
            "gatewave.request_id": self.id,
        }


def headers_of(metadata: Iterable[tuple[str, Any]]) -> Headers:
    """Return metadata as HTTP headers, the form in which they travel."""
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in metadata
    ]


def _id_of(headers: Headers) -> str:
    for name, value in headers:
        if name == HEADER.encode() and ACCEPTABLE_ID.fullmatch(value):
            return value.decode()
    return uuid.uuid4().hex
