"""Calls over gRPC are traced like requests over HTTP."""

import grpc
import numpy as np
import pytest
from calls import serving_rpc
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from waiting import eventually

from gatewave.service.grpc import inference_pb2 as pb

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


def sinc():
    x = np.array([0.5], np.float32)
    request = pb.ModelInferRequest(model_name="sinc", raw_input_contents=[x.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return request


@pytest.fixture(scope="module")
def traced(rpc_settings):
    # No collector listens there: the spans are read by a processor of their own.
    settings = rpc_settings.model_copy(update={"traces": "http://127.0.0.1:1"})
    with serving_rpc(settings) as served:
        spans = InMemorySpanExporter()
        served.runtime.tracer.provider.add_span_processor(SimpleSpanProcessor(spans))
        yield served.client, spans


def ask(client, request, sampled="01"):
    context = f"00-{TRACE_ID}-{PARENT_ID}-{sampled}"
    try:
        client.ModelInfer(request, metadata=[("traceparent", context)], timeout=30)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_call_is_a_span_with_a_child_per_phase(traced):
    client, spans = traced
    spans.clear()
    assert ask(client, sinc()) is grpc.StatusCode.OK
    *children, root = sorted(spans.get_finished_spans(), key=lambda span: span.end_time)
    assert root.name == "inference.GRPCInferenceService/ModelInfer"
    assert f"{root.context.trace_id:032x}" == TRACE_ID
    assert f"{root.parent.span_id:016x}" == PARENT_ID
    assert root.attributes["rpc.system"] == "grpc"
    assert root.attributes["rpc.method"] == "ModelInfer"
    assert root.attributes["rpc.grpc.status_code"] == 0
    assert root.attributes["gatewave.model"] == "sinc"
    assert {child.name for child in children} >= {"decode", "compute", "encode"}
    assert {child.parent.span_id for child in children} == {root.context.span_id}


def test_a_rejection_is_no_error_of_the_server(traced):
    client, spans = traced
    spans.clear()
    assert ask(client, pb.ModelInferRequest(model_name="nonesuch")) is grpc.StatusCode.NOT_FOUND
    eventually(spans.get_finished_spans)  # The caller may hear of it first.
    (root,) = spans.get_finished_spans()
    assert root.attributes["rpc.grpc.status_code"] == 5
    assert root.status.is_unset


def test_a_made_up_path_names_no_span(traced):
    client, spans = traced
    spans.clear()
    call = client.channel.unary_unary("/made.up/Name").future(b"", timeout=30)
    assert call.code() is grpc.StatusCode.UNIMPLEMENTED
    eventually(spans.get_finished_spans)
    (root,) = spans.get_finished_spans()
    assert root.name == root.attributes["rpc.service"] == "unknown"
    assert root.attributes["rpc.method"] == "_OTHER"


def test_unsampled_calls_are_not_recorded(traced):
    client, spans = traced
    spans.clear()
    assert ask(client, sinc(), sampled="00") is grpc.StatusCode.OK
    assert spans.get_finished_spans() == ()
