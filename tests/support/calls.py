"""Server for gRPC in this process, and a client that is built from the protocol's description."""

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import grpc
from google.protobuf.message_factory import GetMessageClass

from gatewave.service import grpc as grpc_service
from gatewave.service.grpc.handlers import SERVICE
from gatewave.service.state import ServiceState


class Client:
    """Client that calls methods by their names in the protocol's description."""

    def __init__(self, channel):
        self.channel = channel

    def __getattr__(self, name):
        method = SERVICE.methods_by_name[name]
        call = self.channel.stream_stream if method.client_streaming else self.channel.unary_unary
        return call(
            f"/{SERVICE.full_name}/{name}",
            request_serializer=lambda message: (
                message if isinstance(message, bytes) else message.SerializeToString()
            ),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )


@contextlib.contextmanager
def loop_in_a_thread():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


@contextlib.contextmanager
def serving_rpc(settings):
    """Run a gRPC server with its own runtime, and yield it with a client."""
    runtime = ServiceState.start(settings)
    with loop_in_a_thread() as do:
        server = do(grpc_service.start(runtime, 0))
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield SimpleNamespace(
                    runtime=runtime, do=do, server=server, channel=channel, client=Client(channel)
                )
        finally:
            do(server.stop(0))
    runtime.close()
