"""gRPC calls that clients never make: any path, no message, half a message, bursts of resets."""

import contextlib
import random
import urllib.request

import grpc
import http2
from calls import Client

from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.paths import HEALTH, REFLECTION, SERVICE, UNKNOWN

PATIENCE_SECONDS = 60
CALLS = 40
"""Number of calls on one connection."""

PATHS = [
    f"/{service.full_name}/{method.name}".encode()
    for service in (SERVICE, HEALTH, REFLECTION)
    for method in service.methods
]
LABELS = {path.decode() for path in PATHS} | {UNKNOWN}


class OddCalls:
    """Client that makes malformed calls, determined by a seed.

    Attributes:
        count: Number of calls made.
    """

    def __init__(self, address, seed):
        self.address = address
        self.random = random.Random(seed)  # noqa: S311 - nothing is secret
        self.count = 0

    def burst(self):
        """Make calls on a new connection, and close it when they were received."""
        with http2.connected(int(self.address.rpartition(":")[2])) as connection:
            calls = [self._call(1 + 2 * number) for number in range(CALLS)]
            with contextlib.suppress(OSError):  # It may be closed for what was sent.
                connection.send(*calls, http2.frame(http2.PING, 0, 0, b"received"))
            for frame in connection.frames():
                if frame.kind == http2.PING and frame.flags & http2.ACK:
                    break
        self.count += CALLS

    def _call(self, stream):
        path = self.random.choice(PATHS)
        if self.random.random() < 0.4:
            at = self.random.randrange(1, len(path))
            path = path[:at] + self.random.randbytes(self.random.choice((1, 2, 300))) + path[at:]
        data = self.random.randbytes(self.random.choice((0, 1, 9, 2000)))
        message = http2.message(stream, data)
        return http2.headers(stream, path) + self.random.choice(
            (
                b"",  # no message, until the connection ends
                message,
                http2.reset(stream),
                message + http2.reset(stream),
                http2.message(stream, data, end=False),
                http2.frame(http2.DATA, 0, stream, b"\0\0\0\xff\xff"),  # half a message's head
                http2.frame(http2.DATA, http2.END_STREAM, stream),
            )
        )

    def wrong(self, url):
        """Return the error of the service after these calls; empty if it is healthy."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                live = Client(channel).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE_SECONDS)
            except grpc.RpcError as error:
                return f"gRPC does not answer: {error.code()}: {error.details()}"
        with urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE_SECONDS) as response:  # noqa: S310
            lines = response.read().decode().splitlines()
        name = "gatewave_grpc_request_duration_seconds_count{method="
        labels = {line.split('"')[1] for line in lines if line.startswith(name)}
        made_up = labels - LABELS
        return (
            f"callers made up labels: {made_up}" if made_up else None if live.live else "not live"
        )


def rpc_address(server):
    """Return the gRPC address of the service, from its log."""
    for line in server.log():
        if line["message"].startswith("serving gRPC on "):
            return line["message"].split()[-1]
    return None
