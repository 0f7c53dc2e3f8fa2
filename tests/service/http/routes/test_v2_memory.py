"""Memory of requests of the Open Inference Protocol: strings and compressed bodies."""

import gzip
import json
import random
import zlib

import numpy as np
import pytest
from fastapi.testclient import TestClient
from oip_requests import binary, strings

from gatewave.service.app import create_app
from gatewave.service.errors import BodyMalformed, BodyTooLong
from gatewave.service.http.compression import PIECE, Decompression, accepted
from gatewave.service.oip.json import InferRequest


def raw_strings(count, *items, datatype=b"BYTES"):
    """Return a request of raw strings."""
    data = strings(*items)
    head = (
        b'{"inputs":[{"name":"x","datatype":"%b","shape":[%d],'
        b'"parameters":{"binary_data_size":%d}}]}' % (datatype, count, len(data))
    )
    return binary(head, data)


@pytest.mark.parametrize(
    ("count", "items", "said"),
    [
        (10_001, [b"\xff"] * 10_001, "at most 10000 numbers"),
        (1, [b"right", b"\xff"], "1 BYTES, for the shape"),
        (2, [b"only"], "a length before each"),
        (5, [b"only"], "5 BYTES, each after its length"),
        (1, [b"\xff"], "UTF-8"),
    ],
)
def test_no_more_strings_are_read_than_the_shape_says_and_the_limit_allows(
    client, words, count, items, said
):
    response = client.post(f"/v2/models/{words}/infer", **raw_strings(count, *items))
    assert said in response.json()["error"]


def test_tensors_of_another_datatype_are_refused_before_they_are_read(client):
    response = client.post("/v2/models/sinc/infer", **raw_strings(1, b"\xff"))
    assert response.json()["error"] == 'inputs.x.datatype: expected FP32, got "BYTES"'


@pytest.fixture(scope="module")
def narrow(settings):
    """Service with 4 MB and one busy lane: all work for a lane is refused."""
    limits = {"inline_bytes": 1 << 12, "lanes": 1, "max_queue": 0, "max_memory_bytes": 1 << 22}
    app = create_app(settings.model_copy(update=limits))
    with TestClient(app) as client:
        client.portal.call(app.state.service.pipeline.worker_pool.acquire)
        yield client


@pytest.mark.parametrize("datatype", [b"BYTES", b"BYT\\u0045S"])
def test_many_raw_strings_are_read_in_a_lane(narrow, datatype):
    few = raw_strings(10, *[b"abc"] * 10, datatype=datatype)
    many = raw_strings(1000, *[b"abc"] * 1000, datatype=datatype)
    assert narrow.post("/v2/models/sinc/infer", **few).status_code == 400
    response = narrow.post("/v2/models/sinc/infer", **many)
    assert (response.status_code, "waiting" in response.text) == (503, True)


def test_raw_strings_weigh_what_they_take(narrow):
    request = raw_strings(100_000, *[b""] * 100_000)
    response = narrow.post("/v2/models/sinc/infer", **request)
    assert (response.status_code, "in use" in response.text) == (503, True)


def test_a_shape_of_a_million_axes_is_refused_at_once(client):
    shape = [2**62] * 200_000
    head = {"inputs": [{"name": "x", "datatype": "BYTES", "shape": shape}]}
    response = client.post("/v2/models/sinc/infer", **binary(head))
    assert "at most 16 axes" in response.json()["error"]


def test_strings_are_written_one_by_one_raw_ones_too():
    words = np.array(["a", "b"], object)
    outputs = {"word": words, "number": np.ones(2)}
    assert InferRequest({}, all_raw=True).written(outputs) == words.nbytes
    assert InferRequest({}).written(outputs) == words.nbytes + 16


def zipped(length):
    """Return a body of spaces, compressed to a thousandth of its size."""
    return {"content": gzip.compress(b" " * length), "headers": {"content-encoding": "gzip"}}


@pytest.mark.parametrize("length", [2000, 5 << 20])
def test_large_bodies_are_decompressed_in_a_lane(narrow, length):
    response = narrow.post("/v2/models/sinc/infer", **zipped(length))
    assert (response.status_code, "requests are waiting" in response.text) == (503, True)


@pytest.fixture(scope="module")
def poor(settings):
    limits = {"max_memory_bytes": 1 << 22, "max_json_bytes": 1 << 21}
    with TestClient(create_app(settings.model_copy(update=limits))) as client:
        yield client


def test_compressed_bodies_hold_their_decompressed_size(poor):
    # It might come to 2 MiB, which with the weight of JSON are more than there are.
    values = [round(random.random(), 6) for _ in range(10_000)]  # noqa: S311 - nothing is secret
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(values)], "data": values}
    body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
    response = poor.post(
        "/v2/models/sinc/infer", content=body, headers={"content-encoding": "gzip"}
    )
    assert (response.status_code, response.json()["outputs"][0]["shape"]) == (200, [10_000])


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "zlib"])
def test_bodies_are_decompressed_piece_by_piece(length, compress):
    said = random.Random(length).randbytes(length)  # noqa: S311 - nothing is secret
    source = Decompression(compress(said), length)
    lengths = []
    while count := source.next():
        lengths.append(count)
    assert (source.whole, sum(lengths)) == (said, length)
    assert max(lengths) <= 2 * PIECE
    with pytest.raises(BodyTooLong):
        exhaust(Decompression(compress(said), length - 1))
    for wrong in (compress(said)[:-1], compress(said) + b"x", b"", b"x"):
        with pytest.raises(BodyMalformed):
            exhaust(Decompression(wrong, length))


def exhaust(source):
    while source.next():
        pass


def test_json_weighs_the_same_whether_it_came_compressed_or_not(poor):
    small, large = zipped(100_000), zipped(1_000_000)
    assert poor.post("/v2/models/sinc/infer", **small).status_code == 400
    for request in (large, {"content": gzip.decompress(large["content"])}):
        response = poor.post("/v2/models/sinc/infer", **request)
        assert (response.status_code, "in use" in response.text) == (503, True)


@pytest.mark.parametrize("part", ["[],", "{},", "[1],"])
@pytest.mark.parametrize("path", ["/activate", "/activate/batch", "/v2/models/sinc/infer"])
def test_json_of_many_lists_holds_its_parsed_size(poor, path, part):
    content = f'{{"inputs":{{"x":[{part * (300_000 // len(part))}1]}}}}'
    response = poor.post(path, content=content)
    assert (response.status_code, "in use" in response.text) == (503, True)
    flat = f'{{"inputs":{{"x":[{"1," * 150_000}1]}}}}'
    assert poor.post(path, content=flat).status_code in {400, 422}


@pytest.mark.parametrize(
    ("header", "coding"),
    [
        (None, None),
        ("gzip", "gzip"),
        ("br, Deflate, gzip", "deflate"),
        ("deflate;q=0.5, gzip; q=0.75", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.00", None),
        ("gzip;q=0.000, deflate;q=0.001", "deflate"),
        ("gzip;q=much", None),
        ("identity", None),
    ],
)
def test_an_answer_is_compressed_as_its_caller_weighs(header, coding):
    assert accepted(header) == coding
