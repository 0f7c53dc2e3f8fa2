"""Traces of requests, by OpenTelemetry; off unless GATEWAVE_TRACES is set."""

from __future__ import annotations

from gatewave.service.errors import SettingsInvalid
from gatewave.service.observability.tracing.trace import Tracer


def start(address: str) -> Tracer:
    """Return a tracer of requests that sends the traces to ``address``.

    Raises:
        SettingsInvalid: The address is invalid, or OpenTelemetry is not installed.
    """
    try:
        from gatewave.service.observability.tracing import otlp  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        msg = f"GATEWAVE_TRACES needs {error.name}: pip install 'gatewave[tracing]'"
        raise SettingsInvalid(msg) from error
    return otlp.OtlpTracer(address)
