"""Cases of tritonclient.grpc against a running server."""

import functools
import queue

import tritonclient.grpc as triton
from cases import SHAPES, VALUES, Report, refused, same, target, tensor

ALGORITHMS = (None, "gzip", "deflate")


def inference(datatype, shape):
    """Return the array, and the input that contains it."""
    array = tensor(datatype, SHAPES[shape])
    given = triton.InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return array, given


def cases():
    for datatype in VALUES:
        for algorithm in ALGORITHMS:
            for shape in SHAPES:
                yield datatype, algorithm, shape


def main():
    where, report = target(), Report()
    client = triton.InferenceServerClient(where["grpc"])
    for check in (matrix, metadata, failures, later, repository):
        check(client, where["headers"], report)
    client.close()
    report.write()


def matrix(client, headers, report):
    infer = functools.partial(client.infer, headers=headers)
    for datatype, algorithm, shape in cases():
        with report.case(f"{datatype} {algorithm} raw {shape}"):
            array, given = inference(datatype, shape)
            wanted = [triton.InferRequestedOutput("y")]
            answer = infer(
                f"identity_{datatype}",
                [given],
                outputs=wanted,
                request_id="7",
                compression_algorithm=algorithm,
            )
            same(answer.as_numpy("y"), array)
            assert answer.get_response().id == "7"


def metadata(client, headers, report):
    with report.case("live and ready"):
        assert client.is_server_live(headers=headers)
        assert client.is_server_ready(headers=headers)
        assert client.is_server_ready()
        assert client.is_model_ready("identity_FP32", headers=headers)
        assert not client.is_model_ready("identity_FP32", "2", headers=headers)
        assert not client.is_model_ready("nonesuch", headers=headers)
    with report.case("server metadata"):
        assert client.get_server_metadata(headers=headers).name == "gatewave"
    with report.case("model metadata"):
        model = client.get_model_metadata("swiglu.grad", headers=headers)
        assert [tensor.name for tensor in model.inputs] == ["a", "b"]
        assert {tensor.datatype for tensor in model.outputs} == {"FP32"}
    with report.case("model config"):
        config = client.get_model_config("identity_BF16", headers=headers, as_json=True)["config"]
        assert config["input"][0]["data_type"] == "TYPE_BF16"
        assert config["instance_group"][0]["kind"] == "KIND_CPU"
    with report.case("statistics"):
        statistics = client.get_inference_statistics("identity_FP32", headers=headers)
        assert statistics.model_stats[0].inference_stats.success.count > 0
        everything = client.get_inference_statistics(headers=headers)
        assert len(everything.model_stats) > len(VALUES)


def failures(client, headers, report):
    infer = functools.partial(client.infer, headers=headers)
    _, given = inference("FP32", "(2,3)")
    with report.case("timeouts"):
        infer("identity_FP32", [given], timeout=10_000_000, client_timeout=10)
    with report.case("errors"):
        refused(lambda: infer("nonesuch", [given]), "NOT_FOUND", "nonesuch")
        refused(lambda: infer("identity_FP64", [given]), "INVALID_ARGUMENT", "FP64")
        refused(lambda: client.infer("identity_FP32", [given]), "UNAUTHENTICATED")


def later(client, headers, report):
    array, given = inference("FP32", "(2,3)")
    with report.case("asynchronous requests"):
        answers = queue.SimpleQueue()
        for _ in range(8):
            client.async_infer(
                "identity_FP32",
                [given],
                lambda result, error: answers.put((result, error)),
                headers=headers,
            )
        for _ in range(8):
            result, error = answers.get(timeout=30)
            assert error is None, error
            same(result.as_numpy("y"), array)
    with report.case("stream"):
        answers = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)), headers=headers)
        names = ["identity_FP32", "nonesuch", "identity_FP32"]
        for number, name in enumerate(names):
            client.async_stream_infer(
                name, [given], request_id=str(number), enable_empty_final_response=True
            )
        for number, name in enumerate(names):
            result, error = answers.get(timeout=30)
            if name == "nonesuch":
                assert "nonesuch" in str(error), error
            else:
                assert error is None, error
                assert result.get_response().id == str(number)
                assert result.get_response().parameters["triton_final_response"].bool_param
                same(result.as_numpy("y"), array)
        client.stop_stream()


def repository(client, headers, report):
    infer = functools.partial(client.infer, headers=headers)
    _, given = inference("FP32", "(2,3)")
    with report.case("repository"):
        client.unload_model("identity_FP32", headers=headers)
        assert not client.is_model_ready("identity_FP32", headers=headers)
        refused(lambda: infer("identity_FP32", [given]), "UNAVAILABLE")
        client.load_model("identity_FP32", headers=headers)
        infer("identity_FP32", [given])
        index = client.get_model_repository_index(headers=headers)
        states = {(model.name, model.state) for model in index.models}
        assert {(f"identity_{datatype}", "READY") for datatype in VALUES} <= states
        refused(
            lambda: client.load_model("identity_FP32", headers=headers, config="{}"),
            "INVALID_ARGUMENT",
        )


if __name__ == "__main__":
    main()
