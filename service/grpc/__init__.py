"""The Open Inference Protocol over gRPC, on the event loop that HTTP has."""

from __future__ import annotations

import os
from typing import Protocol

from gatewave.service.state import ServiceState


class Server(Protocol):
    """A gRPC server that answers."""

    @property
    def port(self) -> int:
        """The one that it listens on, whoever chose it."""

    async def stop(self, seconds: float) -> None:
        """Accept no more, and let what is under way end within ``seconds``."""


async def start(state: ServiceState, port: int) -> Server:
    """Listen on ``port``.

    Raises:
        PortUnavailable: It is taken.
    """
    # Read when gRPC is imported. Nothing here forks and goes on: it would only log of each process
    # that is started, and in no format of ours.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from gatewave.service.grpc import server  # noqa: PLC0415 - 25 MB and a tenth of a second, if wanted

    return await server.start(state, port)
