"""Fuzzed model files: each is read or rejected soon, with one type of error."""

import string

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto

from gatewave.graphs.analysis import unsupported
from gatewave.graphs.analysis.infer import inferred
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.files import read

MODELS = [
    """
    <ir_version: 10, opset_import: ["": 20, "f": 1, "com.microsoft": 1], producer_name: "torch">
    main (float[n, 4] x, bool c) => (float[n, 4] y)
    <float[4] w = {1, 2, 3, 4}, int64[2] s = {-1, 4}, float[n, 4] a>
    {
        a = Add(x, w)
        i = Reshape(a, s)
        y = If (c) <
            then_branch = t () => (float[n, 4] b) { b = f.F <alpha: float = 1.5> (i) },
            else_branch = e () => (float[n, 4] d) { d = com.microsoft.QuickGelu(a) }
        >
    }
    <domain: "f", opset_import: ["": 20]>
    F <alpha, beta: float = 0.5> (p) => (q) { r = G(p) q = Elu <alpha: float = @alpha> (r) }
    <domain: "f", opset_import: ["": 20]>
    G (p) => (q) { h = Constant <value = float {0.5}> () q = Mul(p, h) }
    """,
    """
    <ir_version: 8, opset_import: ["": 17], metadata_props: ["license": "MIT"]>
    loop (int64 m, bool c, float[4] x) => (float[4] y, float[k, 4] all)
    {
        y, all = Loop (m, c, x) <body = b (int64 i, bool go, float[4] in)
            => (bool on, float[4] out, float[4] each)
            { on = Identity(go) g = Sigmoid(in) out = Mul(in, g) each = Identity(out) }>
    }
    """,
]
WORDS = ["", "x", "y", "a", "w", "ai.onnx", "../w.bin", "/etc/passwd", "w.bin", "location", "-1"]
NUMBERS = [0, 1, -1, 2, 8, 127, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of all models, with external data beside them."""
    path = tmp_path_factory.mktemp("fuzzed")
    (path / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    return path


def originals():
    first, second = map(onnx.parser.parse_model, MODELS)
    outside = onnx.ModelProto()
    outside.CopyFrom(first)
    tensor = outside.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return [first, second, outside]


ORIGINALS = originals()


def read_or_refused(folder, content):
    """Read ``content`` as a file; a readable model can also be traversed and written."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    said = None
    try:
        model = read(path)
    except ModelError as error:
        said = str(error)
    if said is not None:
        assert said.startswith(f"{path}: ")
        assert said.isprintable()
        return False
    assert all(node.graph is not None for scope in scopes(model) for node in scope.graph)
    inferred(model)
    unsupported.serialize(model).SerializeToString()
    return True


@st.composite
def damaged(draw):
    """Draw the bytes of a model with parts lost, changed, repeated or moved."""
    content = bytearray(draw(st.sampled_from(ORIGINALS)).SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        end = start + draw(st.integers(0, 12))
        piece = content[start:end]
        change = draw(st.sampled_from(["flip", "lose", "repeat", "move", "cut", "new"]))
        if change == "flip" and piece:
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif change == "lose":
            del content[start:end]
        elif change == "repeat":
            content[start:start] = piece
        elif change == "move":
            del content[start:end]
            at = draw(st.integers(0, len(content)))
            content[at:at] = piece
        elif change == "cut":
            del content[start:]
        else:
            content[start:end] = draw(st.binary(max_size=12))
    return bytes(content)


def messages(message):
    """Return ``message`` and all messages in it."""
    found, pending = [], [message]
    while pending:
        current = pending.pop()
        found.append(current)
        for field, value in current.ListFields():
            if field.type == field.TYPE_MESSAGE:
                pending.extend(value if field.is_repeated else [value])
    return found


@st.composite
def deranged(draw):
    """Draw a model with fields that have the content of others, or invalid content."""
    model = onnx.ModelProto()
    model.CopyFrom(draw(st.sampled_from(ORIGINALS)))
    for _ in range(draw(st.integers(1, 4))):
        everything = messages(model)
        message = draw(st.sampled_from(everything))
        field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
        if field.type == field.TYPE_MESSAGE:
            alike = [m for m in everything if m.DESCRIPTOR is field.message_type]
            change_message(draw, message, field, alike)
        else:
            change_plain(draw, message, field)
    try:
        return model.SerializeToString()
    except DecodeError:
        return b""


def change_message(draw, message, field, alike):
    if not alike or draw(st.booleans()):
        message.ClearField(field.name)
        return
    content = draw(st.sampled_from(alike)).SerializeToString()
    target = getattr(message, field.name)
    (target.add() if field.is_repeated else target).ParseFromString(content)


def change_plain(draw, message, field):
    value = draw(plain(field))
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    values = getattr(message, field.name)
    if values and draw(st.booleans()):
        values[draw(st.integers(0, len(values) - 1))] = value
    else:
        values.append(value)


def plain(field):
    """Return a strategy for the values of a field that is not a message."""
    if field.type == field.TYPE_STRING:
        return st.sampled_from(WORDS) | st.text(string.printable, max_size=4)
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=20)
    if field.type == field.TYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return st.floats(width=32)
    low, high = {
        field.TYPE_INT32: (-(2**31), 2**31 - 1),
        field.TYPE_INT64: (-(2**63), 2**63 - 1),
        field.TYPE_UINT64: (0, 2**64 - 1),
    }[field.type]
    return st.sampled_from([n for n in NUMBERS if low <= n <= high]) | st.integers(low, high)


def within_seconds(examples):
    return settings(
        max_examples=examples,
        deadline=5000,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def test_the_originals_are_read(folder):
    for model in ORIGINALS:
        assert read_or_refused(folder, model.SerializeToString())


@within_seconds(400)
@given(content=damaged())
def test_damaged_files_are_read_or_refused(folder, content):
    read_or_refused(folder, content)


@within_seconds(400)
@given(content=deranged())
def test_random_fields_are_read_or_refused(folder, content):
    read_or_refused(folder, content)


@pytest.mark.parametrize("index", range(len(ORIGINALS)))
def test_models_cut_short_anywhere_are_read_or_refused(folder, index):
    content = ORIGINALS[index].SerializeToString()
    for length in range(len(content)):
        read_or_refused(folder, content[:length])
