"""Between gRPC and the methods: parses, answers, contains failures, logs."""

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
from gatewave.service.grpc.admission import Intake
from gatewave.service.grpc.call_log import Account, headers_of
from gatewave.service.grpc.messages import identity_in, parsed
from gatewave.service.grpc.methods import Methods
from gatewave.service.grpc.paths import PUBLIC, SERVICE
from gatewave.service.grpc.protocol import ModelInferProtocol
from gatewave.service.grpc.statuses import explained, metadata
from gatewave.service.grpc.streams import Context
from gatewave.service.observability.request_ids import HEADER
from gatewave.service.security.clients import client_of_call
from gatewave.service.security.keys import presented
from gatewave.service.serving.memory import Client, Permit
from gatewave.service.serving.request import Timing
from gatewave.service.state import ServiceState

INFER = "ModelInfer"
FINAL = "triton_final_response"
"""What Triton says of the last answer to a request in a stream; here it is the only one."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Act = Callable[[Any], Awaitable[Message]]
Work = Callable[[Context], Awaitable[bytes | None]]
Behaviour = Callable[[object, Context], Awaitable[bytes | None]]


class Handlers:
    """The handlers of all methods, made from the protocol's own description of them.

    Every one reads its messages itself, as a stream's: on the wire there is no difference.
    """

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.methods = Methods(state)
        self.stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keys = state.keys
        self.intake = Intake(state.settings, self.stopping)

    def by_path(self) -> dict[str, Handler]:
        """Return the handlers of the service's methods."""
        return {
            f"/{SERVICE.full_name}/{method.name}": self._handler(method)
            for method in SERVICE.methods
        }

    def refusal(self, path: str, error: ServiceError) -> Handler:
        """What answers a call of ``path`` with ``error``, whatever comes."""

        async def refuse(_: Context) -> None:
            raise error

        return grpc.stream_stream_rpc_method_handler(self.contained(path, refuse))

    def _handler(self, method: MethodDescriptor) -> Handler:
        path = f"/{SERVICE.full_name}/{method.name}"
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(self.contained(path, self._stream))
        work = self._infer if method.name == INFER else self._question(path, method)
        return grpc.stream_unary_rpc_method_handler(self.contained(path, work))

    def _question(self, path: str, method: MethodDescriptor) -> Work:
        """What answers a method that is no inference."""
        act: Act = getattr(self.methods, snake(method.name))
        kind = GetMessageClass(method.input_type)
        desk = self.intake.public if path in PUBLIC else self.intake.questions

        async def answer(context: Context) -> bytes:
            if path not in PUBLIC:
                self._admit(context)
            data = await self.intake.question(context, desk)
            answer: bytes = (await act(parsed(kind, data))).SerializeToString()
            return answer

        return answer

    def _client(self, context: Context) -> Client:
        key = None
        if self._keys.required:
            key = presented(headers_of(context.invocation_metadata() or ()))
        return client_of_call(context.peer(), key)

    def _admit(self, context: Context) -> Client:
        """Return the caller.

        Raises:
            ClientLimited: The client exceeds its limit of requests.
        """
        client = self._client(context)
        if self.state.rate is not None:
            self.state.rate.admit(client)
        return client

    async def _infer(self, context: Context) -> bytes:
        client = self._admit(context)
        data = await self.intake.only(context)
        permit = self.state.pipeline.budget.permit(client)
        # It is called when the answer has gone, or the call ended without one.
        context.add_done_callback(lambda _: permit.give_back())
        return (await self._answer(data, context, permit)).SerializeToString()

    async def _answer(self, data: bytes, context: Context, permit: Permit) -> pb.ModelInferResponse:
        timing = Timing.now(self.state.settings.timeout_seconds)
        remaining = context.time_remaining()
        call_deadline = None if remaining is None else timing.arrived + remaining
        if call_deadline is not None:
            timing.deadline = call_deadline
        text = self.intake.admit(data, permit)
        protocol = ModelInferProtocol(self.state, text, call_deadline)
        return await self.state.pipeline.answer(protocol, data, timing, permit)

    async def _stream(self, context: Context) -> None:
        """Answer the requests of a stream one by one, so that answers keep their order."""
        async with self.intake.opened.one(context) as stream:
            while isinstance(data := await stream.next(context), bytes):
                # gRPC lets nobody take back an answer that is not taken: what it holds is held here
                # too, until its caller's deadline, or the end of its connection.
                with self.state.pipeline.budget.permit(self._client(context)) as permit:
                    response = await self._streamed(data, context, permit)
                    await context.write(response.SerializeToString())

    async def _streamed(
        self, data: bytes, context: Context, permit: Permit
    ) -> pb.ModelStreamInferResponse:
        """The answer to one request of a stream, or why there is none: the stream goes on."""
        streamed = pb.ModelStreamInferResponse()
        try:
            self._admit(context)
            response = await self._answer(data, context, permit)
        except Exception as error:  # noqa: BLE001 - all are answered; ours are logged
            _, streamed.error_message = explained(error)
            streamed.infer_response.id = identity_in(data)
        else:
            streamed.infer_response.CopyFrom(response)
        streamed.infer_response.parameters[FINAL].bool_param = True
        return streamed

    def contained(self, path: str, work: Work) -> Behaviour:
        """``work`` with a request id, whose failure is a status, and that is logged."""

        async def behave(_: object, context: Context) -> bytes | None:
            account = Account(self.state, path, context.invocation_metadata() or ())
            status = grpc.StatusCode.CANCELLED
            try:
                try:
                    context.set_trailing_metadata(((HEADER, account.id),))
                    answer = await work(context)
                except Exception as error:  # noqa: BLE001 - all are answered; ours are logged
                    status, detail = explained(error)
                    said = ((HEADER, account.id), *metadata(error))
                else:
                    status = grpc.StatusCode.OK
                    return answer
                # Not in the handler of that error: gRPC keeps the exception of `abort`, whose
                # context would keep that error.
                return await _aborted(context, status, detail, said)
            finally:
                account.close(status)
                # The context holds the error of `abort`, whose traceback holds this frame: a cycle.
                del context

        return behave


async def _aborted(context: Context, *said: object) -> NoReturn:
    try:
        await context.abort(*said)
    finally:
        del context  # as in `behave`
    raise AssertionError  # it never returns, which its type does not say


def snake(name: str) -> str:
    """``ModelInfer`` as ``model_infer``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
