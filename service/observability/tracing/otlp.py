"""Traces of OpenTelemetry, sent by OTLP over HTTP.

Spans wait in a bounded queue and are sent from a thread: a receiver that is slow, wrong or gone
costs spans, never requests. The standard variables of OpenTelemetry apply unless a setting of the
service overrides them: OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_SCHEDULE_DELAY and the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as Library
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gatewave.service.errors import SettingsInvalid
from gatewave.service.observability.tracing.trace import Trace, Value, current

PATH = "/v1/traces"
PROPAGATED = frozenset({b"traceparent", b"tracestate"})
FLUSH_SECONDS = 5.0
"""Longest time for which waiting spans delay the end of the process."""


class OtlpTrace(Trace):
    """Trace of a request as a span; its marks become child spans."""

    __slots__ = ("clock", "library", "span", "token")

    def __init__(self, library: Library, span: Span) -> None:
        context = span.get_span_context()
        super().__init__(f"{context.trace_id:032x}", recording=span.is_recording())
        self.library = library
        self.span = span
        self.clock = time.time_ns() - time.perf_counter_ns()
        self.token = current.set(self)

    def end(self, name: str, *, failed: bool, attributes: Mapping[str, Value]) -> None:
        current.reset(self.token)
        if self.recording:
            self.span.update_name(name)
            self.span.set_attributes({**self.attributes, **attributes})
            if failed:
                self.span.set_status(StatusCode.ERROR)
            self._add_children()
        self.span.end()

    def _add_children(self) -> None:
        parent = set_span_in_context(self.span, Context())
        for mark in self.marks:
            span = self.library.start_span(
                mark.name,
                parent,
                attributes=mark.attributes,
                start_time=self._moment(mark.began),
            )
            span.end(self._moment(mark.ended))

    def _moment(self, seconds: float) -> int:
        """Return a time of `time.perf_counter` as a Unix time in nanoseconds."""
        return self.clock + int(seconds * 1e9)


class OtlpTracer:
    """Tracer that sends traces by OTLP."""

    def __init__(self, address: str) -> None:
        """Prepare to send to ``address``, which is not resolved before the first span.

        Raises:
            SettingsInvalid: The address is invalid.
        """
        exporter = OTLPSpanExporter(endpoint=_endpoint(address))
        self.provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.library = self.provider.get_tracer("gatewave", version("gatewave"))
        self.propagator = TraceContextTextMapPropagator()

    def begin(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Trace:
        carrier = {n.decode(): v.decode("latin-1") for n, v in headers if n in PROPAGATED}
        parent = self.propagator.extract(carrier, Context())
        return OtlpTrace(self.library, self.library.start_span(name, parent, SpanKind.SERVER))

    def close(self, seconds: float) -> None:
        # The library's own limit is half a minute, and more if the receiver does not answer.
        closing = threading.Thread(target=self.provider.shutdown, daemon=True)
        closing.start()
        closing.join(min(seconds, FLUSH_SECONDS))


def _endpoint(address: str) -> str:
    """Return the full address, with the path of the protocol unless another is given."""
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        expected = "an address such as http://collector:4318"
        raise SettingsInvalid(f"GATEWAVE_TRACES: expected {expected}, got {address!r}")
    return address if parts.path.strip("/") else parts._replace(path=PATH).geturl()


def _resource() -> Resource:
    """Return the resource of the service, named by the environment or else `gatewave`."""
    given = Resource.create()
    ours = {"service.version": version("gatewave")}
    if str(given.attributes["service.name"]).startswith("unknown_service"):
        ours["service.name"] = "gatewave"
    return given.merge(Resource(ours))
