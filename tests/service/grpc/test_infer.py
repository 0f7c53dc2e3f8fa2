"""ModelInfer and ModelStreamInfer: tensors, parameters, streams, and rejected requests."""

import struct
import threading

import grpc
import ml_dtypes
import numpy as np
import pytest
from calls import Client
from onnx import TensorProto
from onnx_models import unary
from repository_models import added
from waiting import eventually

from gatewave.service.grpc import inference_pb2 as pb

A = np.array([0.5, -1, 2, -2], np.float32)
B = np.array([1, -1, 0, 2], np.float32)
DTYPES = {
    "FP16": (np.float16, ".float16"),
    "BF16": (ml_dtypes.bfloat16, ".bfloat16"),
    "FP32": (np.float32, ""),
    "FP64": (np.float64, ".float64"),
}


def raw_request(model="swiglu", *, datatype="FP32", **inputs):
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def typed_request(model="swiglu", *, datatype="FP32", field="fp32_contents", **inputs):
    request = pb.ModelInferRequest(model_name=model)
    for name, array in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        getattr(tensor.contents, field).extend(array.reshape(-1).tolist())
    return request


def tensors(response):
    kinds = {name: kind for name, (kind, _) in DTYPES.items()}
    return {
        output.name: np.frombuffer(raw, kinds[output.datatype]).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def swiglu(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a / (1 + np.exp(-a)) / (1 + np.exp(-b))


def refusal(call, request, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30, **options)
    return caught.value.code(), caught.value.details()


def test_raw_contents_come_back_computed(client):
    response = client.ModelInfer(raw_request(a=A, b=B))
    assert (response.model_name, response.model_version) == ("swiglu", "1")
    assert response.outputs[0].datatype == "FP32"
    np.testing.assert_allclose(tensors(response)["y"], swiglu(A, B), rtol=1e-6)


def test_typed_and_raw_contents_give_the_same(client):
    raw = client.ModelInfer(raw_request(a=A, b=B))
    typed = client.ModelInfer(typed_request(a=A, b=B))
    assert typed.raw_output_contents == raw.raw_output_contents


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()], ids=str)
@pytest.mark.parametrize("datatype", DTYPES)
def test_any_shape_and_float_come_back_alike(client, datatype, shape):
    kind, suffix = DTYPES[datatype]
    x = np.ones(shape, kind)
    response = client.ModelInfer(raw_request(f"sinc{suffix}", datatype=datatype, x=x))
    y = tensors(response)["y"]
    assert y.shape == shape
    assert (y.astype(np.float64) == 0).all()


def test_a_large_request_is_computed_too(client):
    x = np.linspace(-10, 10, 100_000, dtype=np.float32)
    y = tensors(client.ModelInfer(raw_request("sinc", x=x)))["y"]
    np.testing.assert_allclose(y, np.sinc(x.astype(np.float64)), atol=1e-6)


def test_many_typed_contents_are_read_in_a_worker(client):
    x = np.linspace(-10, 10, 10_000, dtype=np.float32)
    y = tensors(client.ModelInfer(typed_request("sinc", x=x)))["y"]
    np.testing.assert_allclose(y, np.sinc(x.astype(np.float64)), atol=1e-6)


def test_outputs_come_in_the_order_asked_for(client):
    request = raw_request("swiglu.grad", a=A, b=B)
    for name in ("dy_db", "y"):
        request.outputs.add(name=name)
    assert list(tensors(client.ModelInfer(request))) == ["dy_db", "y"]


def test_a_parameter_of_the_model_is_heeded(client):
    x = np.array([1.0], np.float32)
    request = raw_request("swish", x=x)
    request.parameters["alpha"].double_param = 2.0
    y = tensors(client.ModelInfer(request))["y"]
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-2.0)), rtol=1e-6)


def test_the_id_comes_back(client):
    request = raw_request(a=A, b=B)
    request.id = "number 7"
    assert client.ModelInfer(request).id == "number 7"


@pytest.mark.parametrize(
    ("algorithm", "size"), [(grpc.Compression.Gzip, 4), (grpc.Compression.Deflate, 100_000)]
)
def test_compressed_requests_are_read(client, algorithm, size):
    x = np.ones(size, np.float32)
    response = client.ModelInfer(raw_request("sinc", x=x), compression=algorithm)
    assert not tensors(response)["y"].any()


def wrong_raw_count():
    request = raw_request(a=A, b=B)
    del request.raw_input_contents[1]
    return request


def mixed():
    request = typed_request(a=A, b=B)
    request.raw_input_contents.extend([A.tobytes(), B.tobytes()])
    return request


def twice():
    request = raw_request(a=A, b=B)
    request.inputs[1].name = "a"
    return request


def two_fields():
    request = typed_request(a=A, b=B)
    request.inputs[0].contents.int_contents.append(1)
    return request


def with_parameter(name, **value):
    request = raw_request(a=A, b=B)
    request.parameters[name].MergeFrom(pb.InferParameter(**value))
    return request


def shared_memory():
    request = raw_request(a=A, b=B)
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    return request


def of_another_shape(*shape):
    request = raw_request(a=A, b=B)
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(shape)
    return request


WRONG = {
    "raw contents for one input only": (wrong_raw_count, "one for each of the 2 inputs"),
    "raw and typed mixed": (mixed, "nothing, since the request has raw_input_contents"),
    "a name twice": (twice, "each name once"),
    "two fields of contents": (two_fields, "inputs[0].contents: expected fp32_contents"),
    "a parameter without a value": (lambda: with_parameter("alpha"), "parameters.alpha"),
    "a timeout that is none": (
        lambda: with_parameter("timeout", string_param="soon"),
        "parameters.timeout",
    ),
    "shared memory": (shared_memory, "shared_memory_region"),
    "an input missing": (lambda: raw_request(a=A), "swiglu needs a, b"),
    "an input too many": (lambda: raw_request(a=A, b=B, c=B), "only a, b"),
    "too few bytes": (lambda: of_another_shape(5), "20 bytes"),
    "a negative size": (lambda: of_another_shape(-4), "none negative"),
    "an overflowing shape": (lambda: of_another_shape(1 << 62, 1 << 62), "bytes"),
    "another datatype": (lambda: raw_request(datatype="INT32", a=A, b=B), "FP32"),
    "no datatype": (lambda: raw_request(datatype="FLOAT", a=A, b=B), "one of BOOL"),
    "FP16 that is not raw": (
        lambda: typed_request("sinc.float16", datatype="FP16", x=A),
        "raw_input_contents: FP16 has no others",
    ),
    "too many tensors": (
        lambda: raw_request(**{f"x{index}": A[:0] for index in range(5000)}),
        "too many fields",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_requests_name_the_fault(client, case):
    request, said = WRONG[case]
    code, details = refusal(client.ModelInfer, request())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert said in details


def test_an_unknown_model_or_version_is_not_found(client):
    code, details = refusal(client.ModelInfer, raw_request("nonesuch", x=A))
    assert (code, "nonesuch" in details) == (grpc.StatusCode.NOT_FOUND, True)
    request = raw_request(a=A, b=B)
    request.model_version = "7"
    code, details = refusal(client.ModelInfer, request)
    assert (code, "version" in details) == (grpc.StatusCode.NOT_FOUND, True)


def test_garbage_is_rejected(client):
    code, _ = refusal(client.ModelInfer, b"\xff" * 20)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    code, _ = refusal(client.ModelMetadata, b"\xff" * 20)
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_without_a_message_is_refused(served):
    call = served.channel.stream_unary("/inference.GRPCInferenceService/ServerLive")
    code, details = refusal(call, iter(()))
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "message: expected one message, got the end of the request stream",
    )


def test_a_message_that_is_too_long_is_refused(served, client):
    x = np.zeros(served.runtime.settings.max_body_bytes, np.float32)
    code, _ = refusal(client.ModelInfer, raw_request("sinc", x=x))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_too_much_that_is_not_raw_is_refused(client):
    x = np.zeros(20_000, np.float32)
    code, details = refusal(client.ModelInfer, typed_request("sinc", x=x))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "65536 bytes besides raw_input_contents" in details


def test_a_message_that_decompresses_to_too_much_is_refused(client):
    bomb = struct.pack("<B", 0x3A) + varint(1 << 26) + bytes(1 << 26)
    code, _ = refusal(client.ModelInfer, bomb, compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def varint(value):
    groups = []
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def test_a_stream_answers_in_order_and_goes_on_after_an_error(client):
    def requests():
        for number in range(20):
            request = raw_request("nonesuch" if number == 7 else "sinc", x=A + number)
            request.id = str(number)
            yield request

    responses = list(client.ModelStreamInfer(requests(), timeout=30))
    assert [response.infer_response.id for response in responses] == list(map(str, range(20)))
    assert "nonesuch" in responses[7].error_message
    assert not any(r.error_message for i, r in enumerate(responses) if i != 7)
    for number, response in enumerate(responses):
        assert response.infer_response.parameters["triton_final_response"].bool_param
        if number != 7:
            y = tensors(response.infer_response)["y"]
            np.testing.assert_allclose(y, np.sinc((A + number).astype(np.float64)), atol=1e-6)


NO_READING_AHEAD = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 14)]
"""Options of a channel that reads only on request; by default it reads ahead."""


def test_an_unread_answer_is_held_until_its_stream_ends(served):
    budget, admission = served.runtime.pipeline.budget, served.server.handlers.admission
    requests = [raw_request("sinc", x=np.ones(200_000, np.float32))] * 3
    with grpc.insecure_channel(f"127.0.0.1:{served.server.port}", NO_READING_AHEAD) as channel:
        stream = Client(channel).ModelStreamInfer(iter(requests))
        next(stream)
        eventually(lambda: budget.used > 800_000)
        for _ in range(50):  # The server is free to do other work meanwhile.
            served.client.ServerLive(pb.ServerLiveRequest(), timeout=30)
        assert budget.used > 800_000
        stream.cancel()
        eventually(lambda: not admission.streams)
        assert budget.used == 0


@pytest.mark.parametrize("version", ["", "1"])
def test_loading_model_is_unavailable_and_to_be_asked_again(served, client, version):
    registry = served.runtime.registry
    registry.mark("coming", "", "LOADING")
    request = raw_request("coming", x=A)
    request.model_version = version
    try:
        with pytest.raises(grpc.RpcError) as caught:
            client.ModelInfer(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "model coming is not ready: loading"
        assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    finally:
        registry.remove("coming", "")


def test_an_invalid_message_of_a_stream_is_answered(client):
    good = raw_request("sinc", x=A)
    first, second = client.ModelStreamInfer(iter([b"\xff" * 9, good]), timeout=30)
    assert "ModelInferRequest" in first.error_message
    assert not second.error_message


def test_only_so_many_streams_are_open_at_a_time(served, client):
    admission = served.server.handlers.admission
    requests = [raw_request("sinc", x=A)]
    over = threading.Event()
    streams = [
        client.ModelStreamInfer(held_open(over, requests), timeout=60)
        for _ in range(admission.streams.size)
    ]
    for stream in streams:
        next(stream)
    with pytest.raises(grpc.RpcError) as caught:
        list(client.ModelStreamInfer(iter(requests), timeout=30))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"
    over.set()
    assert [list(stream) for stream in streams] == [[]] * admission.streams.size
    assert not admission.streams


def held_open(over, messages):
    """Yield ``messages``, then keep the stream open until ``over`` is set."""
    yield from messages
    over.wait(60)


def of_strings(count, *items):
    request = pb.ModelInferRequest(model_name="words")
    request.inputs.add(name="x", datatype="BYTES", shape=[count])
    data = b"".join(struct.pack("<I", len(item)) + item for item in items)
    request.raw_input_contents.append(data)
    return request


def test_too_many_strings_are_not_read(served, client, tmp_path):
    most = served.runtime.settings.max_elements
    words = unary("Identity", ["n"], TensorProto.STRING)
    with added(served.runtime, tmp_path, "words", words):
        _, details = refusal(client.ModelInfer, of_strings(most + 1, b"\xff"))
        assert f"at most {most} numbers" in details
        _, details = refusal(client.ModelInfer, of_strings(1, b"right", b"\xff"))
        assert "1 BYTES, for the shape" in details
