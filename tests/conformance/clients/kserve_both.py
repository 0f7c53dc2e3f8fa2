"""Cases of kserve's InferenceRESTClient and InferenceGRPCClient against a running server."""

import asyncio

import numpy as np
from cases import SHAPES, VALUES, Report, refused_later, same, target, tensor
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

FORMS = ("binary", "values")


def request(datatype, form, shape):
    """Return the array, and the request that contains it."""
    array = tensor(datatype, SHAPES[shape])
    if form == "values" and array.dtype.kind == "f":
        # It writes JSON with a library that knows no NaN and no infinity.
        array = np.asarray(np.nan_to_num(array, nan=0.5, posinf=2.0, neginf=-2.0))
    given = InferInput("x", list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=form == "binary")
    wanted = [RequestedOutput("y", {"binary_data": form == "binary"})]
    name = f"identity_{datatype}"
    return array, InferRequest(name, [given], request_outputs=wanted)


def cases():
    """Yield all cases that the client supports: no BF16, and FP16 only as binary data."""
    for datatype in VALUES:
        for form in FORMS:
            for shape in SHAPES:
                if datatype != "BF16" and (datatype, form) != ("FP16", "values"):
                    yield datatype, form, shape


async def main():
    where, report = target(), Report()
    await rest(where, report)
    await rpc(where, report)
    report.write()


async def rest(where, report):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    url, headers = f"http://{where['http']}", where["headers"]
    for datatype, form, shape in cases():
        with report.case(f"REST {datatype} {form} {shape}"):
            array, sent = request(datatype, form, shape)
            answer = await client.infer(url, sent, sent.model_name, headers=dict(headers))
            same(answer.outputs[0].as_numpy(), array)
    for datatype in ("FP16", "FP32", "FP64"):
        with report.case(f"REST {datatype} answer with NaN in values"):
            array, sent = request(datatype, "binary", "(2,3)")
            sent.request_outputs = [RequestedOutput("y", {"binary_data": False})]
            answer = await client.infer(url, sent, sent.model_name, headers=dict(headers))
            same(answer.outputs[0].as_numpy(), array)
    with report.case("REST live and ready"):
        assert await client.is_server_live(url, headers=headers)
        assert await client.is_server_ready(url, headers=headers)
        assert await client.is_model_ready(url, "swiglu", headers=headers)
    with report.case("REST errors"):
        _, sent = request("FP32", "binary", "(2,3)")
        await refused_later(client.infer(url, sent, "nonesuch", headers=dict(headers)), "nonesuch")
    await client.close()


async def rpc(where, report):
    headers = list(where["headers"].items())
    async with InferenceGRPCClient(where["grpc"]) as client:
        for datatype, form, shape in cases():
            with report.case(f"gRPC {datatype} {form} {shape}"):
                array, sent = request(datatype, form, shape)
                answer = await client.infer(sent, headers=headers)
                same(answer.outputs[0].as_numpy(), array)
        with report.case("gRPC live and ready"):
            assert await client.is_server_live(headers=headers)
            assert await client.is_server_ready(headers=headers)
            assert await client.is_model_ready("swiglu", headers=headers)


if __name__ == "__main__":
    asyncio.run(main())
