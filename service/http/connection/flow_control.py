"""Flow control of a connection with pipelined requests."""

from __future__ import annotations

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl

MAX_PIPELINED = 64
"""Requests of one connection that may wait for their turn. The connection is closed after them, and
the client repeats the rest."""


class PipelineFullError(Exception):
    """More requests of one connection wait for their turn than are allowed."""


class PipelineFlowControl(FlowControl):
    """Flow control that stops reading while pipelined requests wait for their turn.

    uvicorn pauses reading when a request has to wait, but resumes it whenever an answer ends and
    whenever the application asks for a body or for a disconnect. A client could then fill the
    memory with requests that wait. Reading resumes here only once the last of them has begun.

    Args:
        transport: Transport of the connection.
        pipeline: Requests that wait for their turn; the connection's own container.
    """

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()
