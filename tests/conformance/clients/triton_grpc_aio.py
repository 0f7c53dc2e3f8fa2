"""Cases of tritonclient.grpc.aio against a running server."""

import asyncio
import functools

import tritonclient.grpc.aio as triton
from cases import VALUES, Report, refused_later, same, target
from triton_grpc import cases, inference


async def main():
    where, report = target(), Report()
    async with triton.InferenceServerClient(where["grpc"]) as client:
        await matrix(client, where["headers"], report)
        await questions(client, where["headers"], report)
    report.write()


async def matrix(client, headers, report):
    for datatype, algorithm, shape in cases():
        with report.case(f"{datatype} {algorithm} raw {shape}"):
            array, given = inference(datatype, shape)
            answer = await client.infer(
                f"identity_{datatype}", [given], headers=headers, compression_algorithm=algorithm
            )
            same(answer.as_numpy("y"), array)


async def questions(client, headers, report):
    infer = functools.partial(client.infer, headers=headers)
    array, given = inference("FP32", "(2,3)")
    with report.case("live and ready"):
        assert await client.is_server_live(headers=headers)
        assert await client.is_server_ready(headers=headers)
        assert await client.is_model_ready("identity_FP32", headers=headers)
        assert not await client.is_model_ready("nonesuch", headers=headers)
    with report.case("metadata, config, statistics"):
        assert (await client.get_server_metadata(headers=headers)).name == "gatewave"
        metadata = await client.get_model_metadata("sinc.float64", headers=headers)
        assert metadata.inputs[0].datatype == "FP64"
        config = await client.get_model_config("identity_BYTES", headers=headers)
        assert config.config.name == "identity_BYTES"
        statistics = await client.get_inference_statistics("identity_FP32", headers=headers)
        assert statistics.model_stats[0].inference_stats.success.count > 0
    with report.case("errors"):
        await refused_later(infer("nonesuch", [given]), "NOT_FOUND")
    with report.case("stream"):
        await stream(client, headers, array, given)
    with report.case("repository"):
        await client.unload_model("identity_FP32", headers=headers)
        assert not await client.is_model_ready("identity_FP32", headers=headers)
        await client.load_model("identity_FP32", headers=headers)
        await infer("identity_FP32", [given])
        index = await client.get_model_repository_index(headers=headers)
        assert {f"identity_{name}" for name in VALUES} <= {m.name for m in index.models}


async def stream(client, headers, array, given):
    """Check that answers come in order, and that an error does not end the stream."""
    names = ["identity_FP32", "nonesuch", "identity_FP32"]

    async def requests():
        for number, name in enumerate(names):
            yield {"model_name": name, "inputs": [given], "request_id": str(number)}

    answers = [answer async for answer in client.stream_infer(requests(), headers=headers)]
    assert len(answers) == len(names)
    for number, (name, (result, error)) in enumerate(zip(names, answers, strict=True)):
        if name == "nonesuch":
            assert "nonesuch" in str(error), error
        else:
            assert error is None, error
            assert result.get_response().id == str(number)
            same(result.as_numpy("y"), array)


if __name__ == "__main__":
    asyncio.run(main())
