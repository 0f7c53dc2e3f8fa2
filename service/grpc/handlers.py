"""Handlers of the inference service: messages in, messages or a status out, and one log line."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gatewave.service.errors import ServiceError
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.grpc.admission import Admission
from gatewave.service.grpc.call_log import CallLog, headers_of
from gatewave.service.grpc.message_stream import Context
from gatewave.service.grpc.messages import identity_in, parsed
from gatewave.service.grpc.methods import Methods
from gatewave.service.grpc.paths import PUBLIC, SERVICE
from gatewave.service.grpc.protocol import ModelInferProtocol
from gatewave.service.grpc.statuses import explained, metadata
from gatewave.service.observability.request_ids import HEADER
from gatewave.service.security.clients import client_of_call
from gatewave.service.security.keys import presented
from gatewave.service.serving.memory import Client, Permit
from gatewave.service.serving.request import Timing
from gatewave.service.state import ServiceState

INFER = "ModelInfer"
FINAL_RESPONSE = "triton_final_response"
"""Parameter by which Triton marks the last response to a request of a stream. Here each request has
one response, which is the last."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Method = Callable[[Any], Awaitable[Message]]
Respond = Callable[[Context], Awaitable[bytes | None]]
"""Answer to one call: it reads messages from the context, and returns or writes responses."""
Behaviour = Callable[[object, Context], Awaitable[bytes | None]]
"""Function that gRPC calls for each call. Its first argument is not used."""


class Handlers:
    """Handlers of the methods of the inference service, made from its protobuf description.

    Each handler is registered as one with a stream of requests and reads the messages itself. A
    handler for a single request would be called after its message, without a limit on the messages
    that are received at a time. On the wire both are the same.

    Attributes:
        methods: The methods other than the reading of messages.
        stopping: Done when the server stops.
        admission: The slots of all calls.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.methods = Methods(state)
        self.stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keys = state.keys
        self.admission = Admission(state.settings, self.stopping)

    def by_path(self) -> dict[str, Handler]:
        """Return the handlers of the service's methods by path."""
        return {
            f"/{SERVICE.full_name}/{method.name}": self._handler(method)
            for method in SERVICE.methods
        }

    def rejection(self, path: str, error: ServiceError) -> Handler:
        """Return a handler that answers a call of ``path`` with ``error`` and reads no message."""

        async def reject(_: Context) -> None:
            raise error

        return grpc.stream_stream_rpc_method_handler(self.behaviour(path, reject))

    def _handler(self, method: MethodDescriptor) -> Handler:
        path = f"/{SERVICE.full_name}/{method.name}"
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self.behaviour(path, self._stream))
        respond = self._infer if method.name == INFER else self._control(path, method)
        return grpc.stream_unary_rpc_method_handler(self.behaviour(path, respond))

    def _control(self, path: str, method: MethodDescriptor) -> Respond:
        """Return the answer to calls of a method other than inference."""
        call: Method = getattr(self.methods, snake_case(method.name))
        kind = GetMessageClass(method.input_type)
        is_public = path in PUBLIC
        pool = self.admission.public if is_public else self.admission.control

        async def respond(context: Context) -> bytes:
            if not is_public:
                self._admit(context)
            data = await self.admission.control_message(context, pool)
            response: bytes = (await call(parsed(kind, data))).SerializeToString()
            return response

        return respond

    def _client(self, context: Context) -> Client:
        key = None
        if self._keys.required:
            key = presented(headers_of(context.invocation_metadata() or ()))
        return client_of_call(context.peer(), key)

    def _admit(self, context: Context) -> Client:
        """Count the call for its client, and return the client.

        Raises:
            ClientLimited: The client exceeds its limit of requests.
        """
        client = self._client(context)
        if self.state.rate is not None:
            self.state.rate.admit(client)
        return client

    async def _infer(self, context: Context) -> bytes:
        client = self._admit(context)
        data = await self.admission.inference_message(context)
        permit = self.state.pipeline.budget.permit(client)
        # gRPC calls this when the response was sent, or the call ended without one. The memory of
        # the response is in use until then, so the end of this method is too early.
        context.add_done_callback(lambda _: permit.give_back())
        return (await self._response(data, context, permit)).SerializeToString()

    async def _response(
        self, data: bytes, context: Context, permit: Permit
    ) -> pb.ModelInferResponse:
        # The timeout is known when the message is parsed: until then, only the call has a deadline.
        timing = Timing()
        remaining = context.time_remaining()
        timing.deadline = None if remaining is None else timing.arrived + remaining
        structured = self.admission.reserve(data, permit)
        protocol = ModelInferProtocol(self.state, structured, timing.deadline)
        return await self.state.pipeline.answer(protocol, data, timing, permit)

    async def _stream(self, context: Context) -> None:
        """Answer the requests of a stream one by one, to keep the order of responses."""
        async with self.admission.stream(context, self.admission.streams) as stream:
            while isinstance(data := await stream.next(context), bytes):
                # gRPC cannot withdraw a response that the client does not read. Its memory is in
                # use until the caller's deadline or the end of the connection, and so is reserved
                # until `write` returns.
                with self.state.pipeline.budget.permit(self._client(context)) as permit:
                    response = await self._stream_response(data, context, permit)
                    await context.write(response.SerializeToString())

    async def _stream_response(
        self, data: bytes, context: Context, permit: Permit
    ) -> pb.ModelStreamInferResponse:
        """Return the response to one request of a stream.

        An error is part of the response, and the stream continues.
        """
        streamed = pb.ModelStreamInferResponse()
        try:
            self._admit(context)
            response = await self._response(data, context, permit)
        except Exception as error:  # noqa: BLE001 - all are answered; internal ones are logged
            _, streamed.error_message = explained(error)
            streamed.infer_response.id = identity_in(data)
        else:
            streamed.infer_response.CopyFrom(response)
        streamed.infer_response.parameters[FINAL_RESPONSE].bool_param = True
        return streamed

    def behaviour(self, path: str, respond: Respond) -> Behaviour:
        """Return ``respond`` with a request id, a status for each error, and a log line."""

        async def behave(_: object, context: Context) -> bytes | None:
            call_log = CallLog(self.state, path, context.invocation_metadata() or ())
            # The status of a call that its caller cancels: CancelledError passes all handlers.
            status = grpc.StatusCode.CANCELLED
            try:
                try:
                    context.set_trailing_metadata(((HEADER, call_log.id),))
                    response = await respond(context)
                except Exception as error:  # noqa: BLE001 - all are answered; internal ones are logged
                    status, detail = explained(error)
                    trailers = ((HEADER, call_log.id), *metadata(error))
                else:
                    status = grpc.StatusCode.OK
                    return response
                # Outside the `except` block: gRPC keeps the exception of `abort`, and inside the
                # block its context would keep `error` with all frames of its traceback.
                return await _abort(context, status, detail, trailers)
            finally:
                call_log.close(status)
                # The context holds the exception of `abort`, whose traceback holds this frame.
                # Without this line they are a reference cycle.
                del context

        return behave


async def _abort(context: Context, *arguments: object) -> NoReturn:
    try:
        await context.abort(*arguments)
    finally:
        del context  # for the same reason as in `behave`
    raise AssertionError  # `abort` never returns, which its type does not state


def snake_case(name: str) -> str:
    """Return ``ModelInfer`` as ``model_infer``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
