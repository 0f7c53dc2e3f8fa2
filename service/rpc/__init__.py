"""The Open Inference Protocol over gRPC, on the event loop that HTTP has.

Imported only where the application starts it, and only if it is to: gRPC takes 25 MB of memory and
a tenth of a second.
"""

from __future__ import annotations

from service.rpc.server import start

__all__ = ["start"]
