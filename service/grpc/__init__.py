"""The Open Inference Protocol over gRPC, on the same event loop as HTTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatewave.service.grpc.server import GrpcServer
    from gatewave.service.state import ServiceState

__all__ = ["GrpcServer", "start"]


async def start(state: ServiceState, port: int) -> GrpcServer:
    """Listen on ``port``.

    Raises:
        PortUnavailable: The port is in use.
    """
    # grpcio reads the variable when it is imported. Its support of forks logs a line for each
    # process that is started, in a format of its own, and the service forks no process that uses
    # gRPC.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from gatewave.service.grpc import server  # noqa: PLC0415 - takes 25 MB and 0.1 s, if wanted

    return await server.start(state, port)
