"""Conversion of ModelInfer messages to tensors and parameters, and of results to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from gatewave.service.codecs.count_limits import MAX_FIELDS, MAX_TENSORS, check_count
from gatewave.service.codecs.datatypes import BYTES, Array, Datatype, datatype_of
from gatewave.service.codecs.wire import MalformedError, WireReader
from gatewave.service.errors import BodyMalformed, RequestInvalid
from gatewave.service.grpc import inference_pb2 as pb
from gatewave.service.oip.tensors import (
    MAX_AXES,
    checked_datatype,
    checked_shape,
    claimed,
    from_raw,
    from_values,
    memory_of_strings,
    to_raw,
)
from gatewave.service.oip.unsupported import refuse_of_tensors
from gatewave.service.quoting import NOTHING, Words
from gatewave.service.serving.model import Model

Input = pb.ModelInferRequest.InferInputTensor
Value = bool | int | float | str
Kind = TypeVar("Kind", bound=Message)

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""Field of the elements of each datatype, if they are not raw. FP16 and BF16 have no field."""

RAW = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
ID = pb.ModelInferRequest.ID_FIELD_NUMBER
TENSORS = {
    pb.ModelInferRequest.INPUTS_FIELD_NUMBER,
    pb.ModelInferRequest.OUTPUTS_FIELD_NUMBER,
}
MAX_PARTS = 1 << 12
"""Greatest number of inputs, raw contents, outputs and parameters of a request, in total."""


def parsed(kind: type[Kind], data: bytes) -> Kind:
    """Return the message in ``data``.

    Raises:
        BodyMalformed: The bytes are not a message of that kind.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise BodyMalformed.at("message", f"a {name}", Words("something else")) from error


def structured_bytes(data: bytes) -> int:
    """Return the number of bytes of a ModelInferRequest that are not raw contents.

    The message is scanned and not parsed, because parsing takes memory and time before the limits
    can be checked.

    Raises:
        BodyMalformed: The bytes are not a ModelInferRequest, or have too many parts.
    """
    reader = WireReader(data, MAX_PARTS)
    raw = 0
    try:
        for number, span in reader.fields((0, len(data))):
            if number == RAW:
                raw += span[1] - span[0]
            elif number in TENSORS:
                # Counts their parameters too. They are a map, which protobuf parses in more than
                # linear time, so their number has to be bounded before.
                for _ in reader.fields(span):
                    pass
    except MalformedError as error:
        raise BodyMalformed.at("message", "a ModelInferRequest", Words(error)) from error
    return len(data) - raw


def identity_in(data: bytes) -> str:
    """Return the id of the ModelInferRequest in ``data``, or an empty string.

    The message may be invalid otherwise: the answer that reports its error needs the id.
    """
    reader = WireReader(data, MAX_PARTS)
    try:
        for number, span in reader.fields((0, len(data))):
            if number == ID:
                return reader.bytes(span).decode(errors="replace")
    except MalformedError:
        pass
    return ""


def check_sizes(request: pb.ModelInferRequest) -> None:
    """Check the numbers of inputs, outputs and parameters before they are read.

    Raises:
        LimitExceeded: One of the numbers is too large.
    """
    check_count(request.inputs, MAX_TENSORS, "inputs", "tensors")
    check_count(request.outputs, MAX_TENSORS, "outputs", "outputs")
    check_count(request.parameters, MAX_FIELDS, "parameters", "parameters")


def elements_in(request: pb.ModelInferRequest) -> int:
    """Return the number of elements of all inputs according to their shapes."""
    return sum(map(_claimed, request.inputs))


def memory_of(request: pb.ModelInferRequest) -> int:
    """Return the bytes that raw strings take besides the message.

    Other raw contents take none, because their arrays are views of the message.
    """
    return sum(
        memory_of_strings(_claimed(given), len(raw))
        for given, raw in zip(request.inputs, request.raw_input_contents, strict=False)
        if given.datatype == BYTES
    )


def is_raw(request: pb.ModelInferRequest) -> bool:
    """Return whether all tensors are views of the message, without a loop over their elements."""
    return bool(request.raw_input_contents) and all(i.datatype != BYTES for i in request.inputs)


def inputs_of(request: pb.ModelInferRequest, model: Model, max_rank: int) -> dict[str, Array]:
    """Return the tensors in ``request`` by name, checked against the inputs of ``model``.

    Raises:
        RequestInvalid: A name occurs twice, the elements of a tensor are missing or do not fit its
            shape and datatype, or raw and typed contents are mixed.
    """
    raws = _raws(request)
    tensors: dict[str, Array] = {}
    for index, (given, raw) in enumerate(zip(request.inputs, raws, strict=True)):
        field = f"inputs[{index}]"
        if given.name in tensors:
            raise RequestInvalid.at(f"{field}.name", "each name once", given.name)
        check_count(given.parameters, MAX_FIELDS, f"{field}.parameters", "parameters")
        refuse_of_tensors(given.parameters, field)
        checked_datatype(given.datatype, f"{field}.datatype")
        model.check_announced(given.name, given.datatype)
        tensors[given.name] = _tensor(given, raw, field, max_rank)
    return tensors


def wanted_of(request: pb.ModelInferRequest) -> list[str]:
    """Return the names of the requested outputs."""
    for index, output in enumerate(request.outputs):
        field = f"outputs[{index}].parameters"
        check_count(output.parameters, MAX_FIELDS, field, "parameters")
        refuse_of_tensors(output.parameters, f"outputs[{index}]")
    return [output.name for output in request.outputs]


def parameters_of(request: pb.ModelInferRequest) -> dict[str, Value]:
    """Return the parameters of the request by name.

    Raises:
        RequestInvalid: A parameter has no value.
    """
    return {
        name: _value(parameter, f"parameters.{name}")
        for name, parameter in request.parameters.items()
    }


def response_to(
    request: pb.ModelInferRequest, model: Model, outputs: Mapping[str, Array]
) -> pb.ModelInferResponse:
    """Return the response, with raw contents in the order of ``outputs``."""
    response = pb.ModelInferResponse(
        model_name=model.name, model_version=model.version, id=request.id
    )
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=datatype_of(array).name, shape=array.shape)
        response.raw_output_contents.append(bytes(to_raw(array)))
    return response


def _claimed(given: Input) -> int:
    """Return the number of elements by the shape; 0 for a shape that is rejected later."""
    return claimed(list(given.shape)) if len(given.shape) <= MAX_AXES else 0


def _raws(request: pb.ModelInferRequest) -> Sequence[bytes | None]:
    """Return the raw contents of each input, or None for each.

    Raises:
        RequestInvalid: Raw and typed contents are mixed, or their number is wrong.
    """
    raws = list(request.raw_input_contents)
    if not raws:
        return [None] * len(request.inputs)
    for index, given in enumerate(request.inputs):
        if given.HasField("contents"):
            expected = "nothing, since the request has raw_input_contents"
            raise RequestInvalid.at(f"inputs[{index}].contents", expected, Words("contents"))
    if len(raws) != len(request.inputs):
        expected = f"one for each of the {len(request.inputs)} inputs"
        raise RequestInvalid.at("raw_input_contents", expected, len(raws))
    return raws


def _tensor(given: Input, raw: bytes | None, field: str, max_rank: int) -> Array:
    datatype = checked_datatype(given.datatype, f"{field}.datatype")
    # One axis more than allowed is enough to reject the shape, so a long one is not copied.
    shape = checked_shape(given.shape[: max_rank + 1], f"{field}.shape", max_rank)
    if raw is not None:
        return from_raw(datatype, shape, raw, f"raw contents of {field}")
    values = _typed(given, datatype, field)
    return from_values(datatype, shape, values, f"{field}.contents.{FIELDS[datatype.name]}")


def _typed(given: Input, datatype: Datatype, field: str) -> list[Value]:
    """Return the elements of a tensor from the field of its datatype.

    Raises:
        RequestInvalid: Another field has elements, or the datatype has no field.
    """
    right = FIELDS.get(datatype.name)
    if right is None:
        expected = f"raw_input_contents: {datatype.name} has no others"
        raise RequestInvalid.at(f"{field}.contents", expected, NOTHING)
    for filled, _ in given.contents.ListFields():
        if filled.name != right:
            expected = f"{right}, for {datatype.name}"
            raise RequestInvalid.at(f"{field}.contents", expected, Words(filled.name))
    return list(getattr(given.contents, right))


def _value(parameter: pb.InferParameter, field: str) -> Value:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        raise RequestInvalid.at(field, "a value", NOTHING)
    value: Value = getattr(parameter, choice)
    return value
