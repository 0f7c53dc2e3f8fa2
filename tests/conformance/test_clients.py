"""Conformance with the protocol's clients: four of tritonclient, and two of kserve."""

import json
from itertools import product

import pytest
from google.protobuf import descriptor_pb2

from gatewave.service.codecs.datatypes import DATATYPES
from gatewave.service.grpc import inference_pb2

ALGORITHMS = (None, "gzip", "deflate")
SHAPES = ("(2,3)", "(0,3)", "()", "(50,40)")
KSERVE = set(DATATYPES) - {"BF16"}


def over_http():
    matrix = product(DATATYPES, ALGORITHMS, ("binary", "JSON", "mixed"), SHAPES)
    # The client itself refuses to send BF16 in JSON.
    return {f"{d} {a} {f} {s}" for d, a, f, s in matrix if (d, f) != ("BF16", "JSON")}


def over_grpc():
    return {f"{d} {a} raw {s}" for d, a, s in product(DATATYPES, ALGORITHMS, SHAPES)}


def of_kserve():
    # It has no BF16, and sends FP16 as bytes only.
    matrix = product(("REST", "gRPC"), KSERVE, ("binary", "values"), SHAPES)
    cases = {f"{p} {d} {f} {s}" for p, d, f, s in matrix if (d, f) != ("FP16", "values")}
    return cases | {f"REST {d} answer with NaN in values" for d in ("FP16", "FP32", "FP64")}


@pytest.mark.parametrize(
    ("script", "matrix"),
    [
        ("triton_http", over_http()),
        ("triton_http_aio", over_http()),
        ("triton_grpc", over_grpc()),
        ("triton_grpc_aio", over_grpc()),
        ("kserve_both", of_kserve()),
    ],
)
def test_a_client_gets_what_it_asks_for(client, target, script, matrix):
    report = client(script, given=json.dumps(target).encode())
    assert report["failed"] == {}
    assert matrix < set(report["passed"])  # and more than the matrix: metadata, errors, and so on


@pytest.fixture
def protocol():
    description = descriptor_pb2.FileDescriptorProto()
    inference_pb2.DESCRIPTOR.CopyToProto(description)
    return description.SerializeToString()


def test_the_protocol_is_tritons(client, protocol):
    modules = ("tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2")
    verdict = client("protocol", *modules, given=protocol)
    assert verdict["different"] == []
    # What KServe's answers have, and Triton's clients pass over.
    assert verdict["ours only"] == [
        f"RepositoryModel{which}Response.{field}"
        for which in ("Load", "Unload")
        for field in (f"is{which}ed", "model_name")
    ]
    assert len(verdict["same"]) > 200


def test_the_protocol_is_kserves_but_for_the_place_of_a_models_name(client, protocol):
    verdict = client("protocol", "kserve.protocol.grpc.grpc_predict_v2_pb2", given=protocol)
    assert verdict["different"] == [
        "RepositoryModelLoadRequest.model_name",
        "RepositoryModelUnloadRequest.model_name",
    ]
    assert {"RepositoryModelLoadResponse.isLoaded", "ModelInferRequest.inputs"} <= set(
        verdict["same"]
    )
