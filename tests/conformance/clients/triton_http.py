"""Cases of tritonclient.http against a running server."""

import functools

import tritonclient.http as triton
from cases import SHAPES, VALUES, Report, refused, same, target, tensor

ALGORITHMS = (None, "gzip", "deflate")
FORMS = {"binary": (True, True), "JSON": (False, False), "mixed": (True, False)}


def inference(datatype, form, shape):
    """Return the array, the input that contains it, and the requested output."""
    binary_in, binary_out = FORMS[form]
    array = tensor(datatype, SHAPES[shape])
    given = triton.InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary_in)
    return array, given, triton.InferRequestedOutput("y", binary_data=binary_out)


def cases():
    """Yield all cases that the client supports: BF16 only as binary data."""
    for datatype in VALUES:
        for algorithm in ALGORITHMS:
            for form in FORMS:
                for shape in SHAPES:
                    if (datatype, form) != ("BF16", "JSON"):
                        yield datatype, algorithm, form, shape


def asked(client, headers, *what, **how):
    """Call `client.infer` with a copy of ``headers``, because it adds its length to them."""
    return client.infer(*what, headers=dict(headers), **how)


def main():
    where, report = target(), Report()
    client = triton.InferenceServerClient(where["http"])
    for check in (matrix, metadata, failures, repository):
        check(client, where["headers"], report)
    client.close()
    report.write()


def matrix(client, headers, report):
    infer = functools.partial(asked, client, headers)
    for datatype, algorithm, form, shape in cases():
        with report.case(f"{datatype} {algorithm} {form} {shape}"):
            array, given, wanted = inference(datatype, form, shape)
            answer = infer(
                f"identity_{datatype}",
                [given],
                outputs=[wanted],
                request_id="7",
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            same(answer.as_numpy("y"), array)
            response = answer.get_response()
            assert response["id"] == "7"
            assert response["model_version"] == "1"


def metadata(client, headers, report):
    with report.case("live and ready"):
        assert client.is_server_live(headers=headers)
        assert client.is_server_ready(headers=headers)
        assert client.is_model_ready("identity_FP32", headers=headers)
        assert client.is_model_ready("identity_FP32", "1", headers=headers)
        assert not client.is_model_ready("identity_FP32", "2", headers=headers)
        assert not client.is_model_ready("nonesuch", headers=headers)
    with report.case("server metadata"):
        server = client.get_server_metadata(headers=headers)
        assert server["name"] == "gatewave"
        assert "binary_tensor_data" in server["extensions"]
    with report.case("model metadata"):
        model = client.get_model_metadata("swiglu.grad", headers=headers)
        assert [tensor["name"] for tensor in model["inputs"]] == ["a", "b"]
        assert {tensor["datatype"] for tensor in model["outputs"]} == {"FP32"}
        assert model["versions"] == ["1"]
    with report.case("model config"):
        config = client.get_model_config("identity_BYTES", "1", headers=headers)
        assert config["input"][0]["data_type"] == "TYPE_STRING"
    with report.case("statistics"):
        statistics = client.get_inference_statistics("identity_FP32", headers=headers)
        (model,) = statistics["model_stats"]
        assert model["inference_stats"]["success"]["count"] > 0
        everything = client.get_inference_statistics(headers=headers)
        assert len(everything["model_stats"]) > len(VALUES)


def failures(client, headers, report):
    infer = functools.partial(asked, client, headers)
    _, given, _ = inference("FP32", "binary", "(2,3)")
    with report.case("all outputs unless some are named"):
        answer = infer("identity_FP32", [given])
        assert answer.as_numpy("y") is not None
        infer("identity_FP32", [given], model_version="1", timeout=10_000_000)
    with report.case("percent-encoded names"):
        refused(lambda: client.get_model_metadata("no such/model", headers=headers), "404")
    with report.case("errors"):
        refused(lambda: infer("nonesuch", [given]), "404", "nonesuch")
        refused(lambda: infer("identity_FP64", [given]), "FP64")
        refused(lambda: client.infer("identity_FP32", [given]), "401")
    with report.case("asynchronous requests"):
        answers = [client.async_infer("identity_FP32", [given], headers=headers) for _ in range(8)]
        for answer in answers:
            same(answer.get_result().as_numpy("y"), tensor("FP32", (2, 3)))


def repository(client, headers, report):
    infer = functools.partial(asked, client, headers)
    _, given, _ = inference("FP32", "binary", "(2,3)")
    with report.case("repository"):
        client.unload_model("identity_FP32", headers=headers)
        assert not client.is_model_ready("identity_FP32", headers=headers)
        refused(lambda: infer("identity_FP32", [given]), "503")
        client.load_model("identity_FP32", headers=headers)
        assert client.is_model_ready("identity_FP32", headers=headers)
        infer("identity_FP32", [given])
        index = client.get_model_repository_index(headers=headers)
        states = {(model["name"], model["state"]) for model in index}
        assert {(f"identity_{datatype}", "READY") for datatype in VALUES} <= states


if __name__ == "__main__":
    main()
