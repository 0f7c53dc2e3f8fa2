"""Cases of tritonclient.http.aio against a running server."""

import asyncio
import functools

import tritonclient.http.aio as triton
from cases import VALUES, Report, refused_later, same, target
from triton_http import asked, cases, inference


async def main():
    where, report = target(), Report()
    async with triton.InferenceServerClient(where["http"]) as client:
        await matrix(client, where["headers"], report)
        await questions(client, where["headers"], report)
    report.write()


async def matrix(client, headers, report):
    infer = functools.partial(asked, client, headers)
    for datatype, algorithm, form, shape in cases():
        with report.case(f"{datatype} {algorithm} {form} {shape}"):
            array, given, wanted = inference(datatype, form, shape)
            answer = await infer(
                f"identity_{datatype}",
                [given],
                outputs=[wanted],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            same(answer.as_numpy("y"), array)


async def questions(client, headers, report):
    infer = functools.partial(asked, client, headers)
    _, given, _ = inference("FP32", "binary", "(2,3)")
    with report.case("live and ready"):
        assert await client.is_server_live(headers=headers)
        assert await client.is_server_ready(headers=headers)
        assert await client.is_model_ready("identity_FP32", headers=headers)
        assert not await client.is_model_ready("nonesuch", headers=headers)
    with report.case("metadata, config, statistics"):
        assert (await client.get_server_metadata(headers=headers))["name"] == "gatewave"
        metadata = await client.get_model_metadata("sinc.float64", headers=headers)
        assert metadata["inputs"][0]["datatype"] == "FP64"
        config = await client.get_model_config("identity_BF16", headers=headers)
        assert config["input"][0]["data_type"] == "TYPE_BF16"
        statistics = await client.get_inference_statistics("identity_FP32", headers=headers)
        assert statistics["model_stats"][0]["inference_stats"]["success"]["count"] > 0
    with report.case("errors"):
        await refused_later(infer("nonesuch", [given]), "404", "nonesuch")
        await refused_later(client.infer("identity_FP32", [given]), "401")
    with report.case("repository"):
        await client.unload_model("identity_FP32", headers=headers)
        assert not await client.is_model_ready("identity_FP32", headers=headers)
        await client.load_model("identity_FP32", headers=headers)
        await infer("identity_FP32", [given])
        index = await client.get_model_repository_index(headers=headers)
        assert {f"identity_{datatype}" for datatype in VALUES} <= {m["name"] for m in index}


if __name__ == "__main__":
    asyncio.run(main())
