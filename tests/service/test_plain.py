"""Documents that simdjson reads have the values of the complete reader; others are left to it."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewave.service.activate.messages import BodyReader
from gatewave.service.activate.protocol import ActivateProtocol
from gatewave.service.codecs.documents import parsed
from gatewave.service.errors import RequestInvalid
from gatewave.service.serving.request import Timing

NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.just(-0.0)
)
LEAVES = st.one_of(NUMBERS, st.sampled_from(["NaN", "x", None, True, {}]))
TENSORS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3), max_leaves=12)
EVEN = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1)
)
REQUESTS = st.fixed_dictionaries(
    {"activation": st.just("swish"), "inputs": st.fixed_dictionaries({"x": TENSORS | EVEN})},
    optional={
        "dtype": st.sampled_from(["float16", "bfloat16", "float32", "float64", "int8"]),
        "outputs": st.sampled_from([["y"], ["y", "dy_dx"], ["y", "y"], [], "y", [["y"]]]),
        "params": st.sampled_from([{}, {"alpha": 2}, {"alpha": True}, {"alpha": 2.0}, {"b": 1}]),
        "more": st.just(1),
    },
)


def outcome(read):
    try:
        decoded = read()
    except RequestInvalid as error:
        return str(error)
    plan, call = decoded.source, decoded.call
    arrays = {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in call.inputs.items()}
    return plan.activation, plan.graph.name, call.outputs, call.scalars, arrays


def read(reader, body):
    """Return the request in ``body``, by the quick reader if it is plain."""
    return ActivateProtocol(reader).decode(body, Timing()).read()


@pytest.fixture(scope="module")
def reader(app):
    reader = BodyReader(app.state.service)
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        for outputs in (["y"], ["y", "dy_dx"]):
            for params in ({}, {"alpha": 2}, {"alpha": 2.0}):
                reader.document(
                    {
                        "activation": "swish",
                        "inputs": {"x": 1},
                        "dtype": dtype,
                        "outputs": outputs,
                        "params": params,
                    }
                )
    return reader


@given(request=REQUESTS.filter(lambda request: not _too_large(request)))
def test_both_readings_agree(reader, request):
    body = orjson.dumps(request)
    assert outcome(lambda: read(reader, body)) == outcome(lambda: reader.document(parsed(body)))


def _too_large(value):
    """Orjson writes no integers beyond 64 bits."""
    if isinstance(value, dict):
        return any(map(_too_large, value.values()))
    if isinstance(value, list):
        return any(map(_too_large, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**64


@pytest.mark.parametrize(
    "text",
    [
        "[[1,2],[3]]",
        "[[1,2],[3],[4,5,6]]",
        "[1,[2]]",
        "[[1],2]",
        "[[1,[2]],[3,4]]",
        "[[[1]],[2]]",
        "[1,[],2]",
        "[]",
        "[[],[]]",
        "[1e400]",
        "[1e39]",
        "[18446744073709551616]",
        "[-0]",
        "[true]",
        '["NaN",1]',
        '{"a":[1]}',
        "1",
    ],
)
def test_odd_tensors_are_read_alike(reader, text):
    body = b'{"activation":"swish","inputs":{"x":' + text.encode() + b"}}"
    assert outcome(lambda: read(reader, body)) == outcome(lambda: reader.document(parsed(body)))


@pytest.mark.parametrize(
    "body",
    [
        b'{"activation":"swish","inputs":{"x":[1]},"inputs":{"x":[2]}}',
        b'{"activation":"swish","activation":"sinc","inputs":{"x":[2]}}',
        b'{"inputs":{"x":[1]},"activation":"swi[sh"}',
        b'{"inputs":{"x":[1]},"activation":"swish","outputs":["[y"]}',
        b"[]",
        b"",
        b"{}",
        b'"',
    ],
)
def test_odd_documents_are_read_alike(reader, body):
    assert outcome(lambda: read(reader, body)) == outcome(lambda: reader.document(parsed(body)))


def test_the_plain_reading_is_used(reader):
    """Or all of the above would compare one reading with itself."""
    body = b'{"activation":"swish","inputs":{"x":[[1,2],[3,4]]}}'
    call = reader.plain(body).call
    np.testing.assert_array_equal(call.inputs["x"], [[1, 2], [3, 4]])
