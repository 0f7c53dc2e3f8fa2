"""Bodies of the protocol over HTTP: JSON, and the binary tensor data extension.

The header Inference-Header-Content-Length gives the length of the JSON at the start of a body. The
raw tensors of the inputs with ``binary_data_size`` follow, in the order of the inputs. An answer
with raw outputs has the same form. If the header is 0, the body is the tensor of the only input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from gatewave.service.codecs import count_limits, simd
from gatewave.service.codecs.bodies import Body, Part
from gatewave.service.codecs.count_limits import check_elements
from gatewave.service.codecs.datatypes import (
    BY_NUMPY,
    BYTES,
    DATATYPES,
    DTYPES,
    NUMPY,
    Array,
    DType,
    datatype_of,
)
from gatewave.service.codecs.documents import parsed_leniently
from gatewave.service.codecs.nonfinite import dumps
from gatewave.service.errors import BodyMalformed, RequestInvalid
from gatewave.service.oip.tensors import (
    checked_datatype,
    checked_shape,
    claimed,
    from_raw,
    from_string,
    from_values,
    memory_of_strings,
    to_raw,
    to_values,
)
from gatewave.service.oip.unsupported import refuse_of_tensors
from gatewave.service.quoting import Words
from gatewave.service.serving.model import ANY, Model, Port
from gatewave.service.serving.request import InferenceRequest

LENGTH_HEADER = b"inference-header-content-length"
REQUEST_FIELDS = frozenset({"id", "parameters", "inputs", "outputs"})
INPUT_FIELDS = frozenset({"name", "shape", "datatype", "parameters", "data"})
PLAIN_FIELDS = INPUT_FIELDS - {"parameters"}
OUTPUT_FIELDS = frozenset({"name", "parameters"})
PLAIN: dict[str, DType] = {BY_NUMPY[NUMPY[dtype]].name: dtype for dtype in DTYPES}


class Bounds(NamedTuple):
    """Bounds of the settings on the tensors of a request."""

    max_rank: int
    max_elements: int


@dataclass(slots=True)
class InferRequest:
    """Inference request in a body.

    Attributes:
        raw: True for raw bytes, for each output that is requested by name.
        all_raw: True if raw bytes are the default for outputs.
    """

    inputs: dict[str, Array]
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    raw: dict[str, bool] = field(default_factory=dict)
    all_raw: bool = False

    def is_raw(self, name: str) -> bool:
        """Return whether the output ``name`` is requested as raw bytes."""
        return self.raw.get(name, self.all_raw)

    def written(self, outputs: Mapping[str, Array]) -> int:
        """Return the bytes of ``outputs`` whose elements are written one by one."""
        return sum(
            each.nbytes
            for name, each in outputs.items()
            if each.dtype.hasobject or not self.is_raw(name)
        )


def header_length(header: bytes | None, body_length: int) -> int | None:
    """Return the length of the JSON at the start of a body; None if the whole body is JSON.

    Raises:
        BodyMalformed: The header is not a number up to the length of the body.
    """
    if header is None:
        return None
    if not header.isdigit() or len(header) > 19 or int(header) > body_length:  # noqa: PLR2004
        expected = f"a whole number up to the body's {body_length} bytes"
        raise BodyMalformed.at(LENGTH_HEADER.decode(), expected, header.decode("latin-1"))
    return int(header)


@dataclass(frozen=True, slots=True)
class Envelope:
    """Body with raw tensors, of which only the JSON was parsed.

    Attributes:
        document: The parsed JSON, not yet validated.
        data: The bytes after the JSON.
        strings: The number of raw elements of type BYTES, according to the shapes.
    """

    document: Any
    data: memoryview
    strings: int

    @property
    def memory(self) -> int:
        """Bytes that the tensors take besides the body: those of strings, which are not views."""
        return memory_of_strings(self.strings, len(self.data))


def opened(body: Body, json_length: int) -> Envelope:
    """Parse the first ``json_length`` bytes of ``body``.

    Raises:
        BodyMalformed: The bytes are not JSON.
    """
    whole = memoryview(body)
    document = parsed_leniently(bytes(whole[:json_length]))
    return Envelope(document, whole[json_length:], _strings_in(document))


def unpacked(envelope: Envelope, model: Model, bounds: Bounds) -> InferRequest:
    """Return the request to ``model`` in ``envelope``.

    Raises:
        RequestInvalid: A field is wrong.
    """
    return _Reading(envelope.data, model, bounds).request(envelope.document)


def complete(text: bytes, model: Model, bounds: Bounds) -> InferRequest:
    """Return the request to ``model`` in any JSON ``text``; up to ten times slower than `plain`.

    Raises:
        RequestInvalid: A field is wrong.
    """
    return _Reading(memoryview(b""), model, bounds).request(parsed_leniently(text))


def whole(body: Body, model: Model, bounds: Bounds) -> InferRequest:
    """Return the request of a body that consists of the tensor of the model's only input.

    Triton's protocol calls it a raw binary request. The shape follows from the model's: one open
    size is deduced from the length of the body. A body of BYTES is one string without its length.
    Answers are raw as well.

    Raises:
        RequestInvalid: The model has several inputs, the shape cannot be deduced, or the bytes do
            not fit the shape.
        LimitExceeded: The tensor has too many elements.
    """
    if len(model.inputs) != 1:
        expected = f"JSON that names the inputs: {model.name} has {len(model.inputs)} of them"
        raise RequestInvalid.at("body", expected, Words("a raw binary request"))
    (port,) = model.inputs
    datatype = DATATYPES[port.datatype]
    at = f"inputs.{port.name}"
    if port.datatype == BYTES:
        shape = [1 if size == ANY else size for size in port.shape]
        return InferRequest({port.name: from_string(bytes(body), shape, at)}, all_raw=True)
    shape = _deduced(model, port, len(body) // datatype.numpy.itemsize, at)
    check_elements(math.prod(shape), bounds.max_elements)
    return InferRequest({port.name: from_raw(datatype, shape, body, at)}, all_raw=True)


def memory_of_whole(body: Body, model: Model) -> int:
    """Return the bytes that the tensor of a raw binary request takes in addition to its body."""
    strings = sum(port.datatype == BYTES for port in model.inputs)
    return memory_of_strings(strings, len(body))


def _deduced(model: Model, port: Port, count: int, at: str) -> list[int]:
    """Return the shape of ``count`` elements for ``port``."""
    shape = list(port.shape)
    if model.batching is not None and shape.count(ANY) > 1 and shape[0] == ANY:
        shape[0] = 1
    if shape.count(ANY) > 1:
        expected = "JSON that says the shape: more than one size of the input is open"
        raise RequestInvalid.at(f"{at}.shape", expected, list(port.shape))
    if ANY in shape:
        fixed = math.prod(size for size in shape if size != ANY)
        shape[shape.index(ANY)] = count // fixed if fixed else 0
    return shape


def encode(
    request: InferRequest, call: InferenceRequest, outputs: Mapping[str, Array]
) -> list[Part]:
    """Return the answer: its JSON, and the raw tensors."""
    tensors: list[dict[str, Any]] = []
    parts: list[Part] = []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of(array).name,
            "shape": array.shape,
        }
        if request.is_raw(name):
            parts.append(to_raw(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = _values(array)
        tensors.append(tensor)
    document = {"model_name": call.model.name, "model_version": call.model.version}
    if request.id:
        document["id"] = request.id
    return [orjson.dumps({**document, "outputs": tensors}), *parts]


def _values(array: Array) -> orjson.Fragment:
    """Return the values in JSON; NaN and infinities as "NaN", "Infinity" and "-Infinity".

    JSON has no such numbers, and JavaScript's parser rejects bare words. NumPy, with which Python's
    clients build arrays, reads the quoted words. ml_dtypes, which defines bfloat16, takes numbers
    only (0.5.4); BF16 therefore has bare words, which Python reads.
    """
    if array.dtype.kind in "Ob":
        return orjson.Fragment(orjson.dumps(to_values(array)))
    flat = np.ascontiguousarray(array.reshape(-1))
    if array.dtype == NUMPY["bfloat16"]:
        return orjson.Fragment(dumps(flat.astype(np.float32), quoted=False))
    return orjson.Fragment(dumps(flat))


def plain(text: bytes, max_rank: int) -> InferRequest:
    """Return the request in plain ``text``: numbers in flat lists, without parameters.

    Raises:
        NotPlain: The text has anything else in it, or an error.
    """
    document = simd.fields(simd.parse(text), REQUEST_FIELDS)
    identity = document.get("id", "")
    if type(identity) is not str or "parameters" in document or "outputs" in document:
        raise simd.NotPlain
    values = simd.elements(document.get("inputs"))
    with simd.ArrayReader(text) as numbers:
        inputs = dict(_plain_tensor(value, numbers, max_rank) for value in values)
    numbers.finish(other=1 + len(values))
    if len(inputs) != len(values):
        raise simd.NotPlain
    return InferRequest(inputs, identity)


def _plain_tensor(value: Any, numbers: simd.ArrayReader, max_rank: int) -> tuple[str, Array]:
    tensor = simd.fields(value, PLAIN_FIELDS)
    name, dtype = tensor.get("name"), PLAIN.get(tensor.get("datatype", ""))
    shape = simd.sizes(tensor.get("shape"))
    if type(name) is not str or dtype is None or len(shape) > max_rank:
        raise simd.NotPlain
    flat = numbers.take(tensor.get("data"), dtype, 1)
    return name, flat if shape == flat.shape else simd.reshaped(flat, shape)


def _strings_in(document: Any) -> int:
    """Return the number of raw strings; errors in the document are reported later, in order."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    strings = 0
    for tensor in inputs if isinstance(inputs, list) else ():
        if isinstance(tensor, dict) and tensor.get("datatype") == BYTES:
            strings += claimed(tensor.get("shape"))
    return strings


class _Reading:
    """Complete reader of one request, with the raw bytes that no tensor has taken yet."""

    def __init__(self, data: memoryview, model: Model, bounds: Bounds) -> None:
        self.data = data
        self.position = 0
        self.model = model
        self.bounds = bounds
        self.count = 0

    def request(self, document: Any) -> InferRequest:
        fields = _object(document, "body", None)
        inputs = fields.get("inputs")
        if not isinstance(inputs, list):
            raise RequestInvalid.at("inputs", "a list of tensors", inputs)
        count_limits.check_count(inputs, count_limits.MAX_TENSORS, "inputs", "tensors")
        tensors: dict[str, Array] = {}
        for index, value in enumerate(inputs):
            name, tensor = self.tensor(value, f"inputs[{index}]")
            if name in tensors:
                raise RequestInvalid.at(f"inputs[{index}].name", "each name once", name)
            tensors[name] = tensor
        if self.position != len(self.data):
            left = len(self.data) - self.position
            raise BodyMalformed.at("body", "no bytes after the tensors", Words(f"{left} bytes"))
        parameters = _parameters(fields, "")
        return InferRequest(
            tensors,
            _identity(fields),
            parameters,
            dict(_wanted(fields, parameters)),
            _flag(parameters, "binary_data_output", "parameters") or False,
        )

    def tensor(self, value: Any, at: str) -> tuple[str, Array]:
        fields = _object(value, at, INPUT_FIELDS)
        name = fields.get("name")
        if not isinstance(name, str):
            raise RequestInvalid.at(f"{at}.name", "a string", name)
        datatype = checked_datatype(fields.get("datatype"), f"{at}.datatype")
        shape = checked_shape(fields.get("shape"), f"{at}.shape", self.bounds.max_rank)
        self.count += math.prod(shape)
        check_elements(self.count, self.bounds.max_elements)
        self.model.check_announced(name, datatype.name)
        parameters = _parameters(fields, f"{at}.")
        refuse_of_tensors(parameters, at)
        if "binary_data_size" in parameters:
            # KServe's client sends a null beside the size of an empty tensor.
            if fields.get("data") is not None:
                raise RequestInvalid.at(f"{at}.data", "none, beside binary_data_size", "data")
            raw = self._next(parameters["binary_data_size"], f"{at}.parameters.binary_data_size")
            return name, from_raw(datatype, shape, raw, at)
        if "data" not in fields:
            raise RequestInvalid.at(f"{at}.data", "values, or binary_data_size", Words("neither"))
        max_rank = self.bounds.max_rank
        return name, from_values(datatype, shape, fields["data"], f"{at}.data", max_rank)

    def _next(self, size: Any, at: str) -> memoryview:
        left = len(self.data) - self.position
        if type(size) is not int or not 0 <= size <= left:
            raise BodyMalformed.at(at, f"a whole number of bytes, of which {left} are left", size)
        begin, self.position = self.position, self.position + size
        return self.data[begin : self.position]


def _identity(fields: Mapping[str, Any]) -> str:
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        raise RequestInvalid.at("id", "a string", identity)
    return identity or ""


def _wanted(fields: Mapping[str, Any], parameters: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Yield each requested output, and whether it is raw; its own parameter beats the request's."""
    outputs = fields.get("outputs")
    if outputs is None:
        return
    if not isinstance(outputs, list):
        raise RequestInvalid.at("outputs", "a list", outputs)
    count_limits.check_count(outputs, count_limits.MAX_TENSORS, "outputs", "outputs")
    otherwise = _flag(parameters, "binary_data_output", "parameters") or False
    seen: set[str] = set()
    for index, value in enumerate(outputs):
        at = f"outputs[{index}]"
        output = _object(value, at, OUTPUT_FIELDS)
        name = output.get("name")
        if not isinstance(name, str):
            raise RequestInvalid.at(f"{at}.name", "a string", name)
        if name in seen:
            raise RequestInvalid.at(f"{at}.name", "each name once", name)
        seen.add(name)
        asked = _parameters(output, f"{at}.")
        refuse_of_tensors(asked, at)
        own = _flag(asked, "binary_data", f"{at}.parameters")
        yield name, otherwise if own is None else own


def _flag(parameters: Mapping[str, Any], name: str, at: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestInvalid.at(f"{at}.{name}", "true or false", value)
    return value


def _parameters(fields: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    """Return the parameters of ``fields`` without those that are null."""
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestInvalid.at(f"{at}parameters", "an object", parameters)
    count_limits.check_fields(parameters, f"{at}parameters")
    return {name: value for name, value in parameters.items() if value is not None}


def _object(value: Any, at: str, known: frozenset[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestInvalid.at(at, "an object", value)
    count_limits.check_fields(value, at)
    for name in value:
        if known is not None and name not in known:
            raise RequestInvalid.at(f"{at}.{name}", "no field of this name", value[name])
    return value
