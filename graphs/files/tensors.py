"""Check that a tensor has as many bytes as its type and dimensions need, without loading it.

A file of 72 bytes can declare 2⁴⁰ floats, and 2⁶² elements of 4 bytes are 0 bytes in 64-bit
arithmetic. These checks allocate nothing, and Python's integers do not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import onnx
import onnx_ir as ir

from gatewave.graphs.errors import ModelError

MAX_AXES = 64
"""NumPy holds no more. It also keeps the product of the dimensions short."""

FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "FLOAT": "float_data",
        "COMPLEX64": "float_data",
        "DOUBLE": "double_data",
        "COMPLEX128": "double_data",
        "INT64": "int64_data",
        "UINT64": "uint64_data",
        "UINT32": "uint64_data",
        "STRING": "string_data",
    }
)
"""Field of elements that are not in ``raw_data``; for all other types: ``int32_data``."""

LISTS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def check(tensor: onnx.TensorProto, what: str) -> None:
    """Check the data that is inside the message; of external data, only type and dimensions.

    Raises:
        ModelError: Type, dimensions and data do not fit together.
    """
    dtype = dtype_of(tensor, what)
    check_dimensions(tensor.dims, what)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        if dtype == ir.DataType.STRING:
            raise ModelError(f"{what}: strings cannot be external data")
    elif tensor.HasField("raw_data"):
        _check_raw(tensor, dtype, what)
    else:
        _check_list(tensor, dtype, what)


def check_sparse(tensor: onnx.SparseTensorProto, what: str) -> None:
    """Check the values of a sparse tensor, their indices, and their number.

    Raises:
        ModelError: They do not fit together, or are external data.
    """
    check_dimensions(tensor.dims, what)
    for part, role in ((tensor.values, "values"), (tensor.indices, "indices")):
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{what}: its {role} are external data, which is not supported")
        check(part, f"{role} of {what}")
    # Indices are positions in the flattened tensor, or one row of coordinates per value.
    count, rank = math.prod(tensor.values.dims), len(tensor.dims)
    if list(tensor.indices.dims) not in ([count], [count, rank]):
        raise ModelError(
            f"{what}: expected indices of shape [{count}] or [{count}, {rank}] for its {count} "
            f"values, got {list(tensor.indices.dims)}"
        )


def dtype_of(tensor: onnx.TensorProto, what: str) -> ir.DataType:
    if tensor.data_type in ELEMENT_TYPES:
        return ir.DataType(tensor.data_type)
    raise ModelError(f"{what}: {tensor.data_type} is no element type that ONNX has")


ELEMENT_TYPES = frozenset(dtype.value for dtype in ir.DataType) - {0}


def check_dimensions(dims: Sequence[int], what: str) -> None:
    if len(dims) > MAX_AXES:
        raise ModelError(f"{what}: has {len(dims)} axes; at most {MAX_AXES} are supported")
    if any(dim < 0 for dim in dims):
        raise ModelError(f"{what}: a dimension is negative: {list(dims)}")


def bytes_needed(tensor: onnx.TensorProto) -> int:
    """Return the size of a tensor that passed `check`; types of few bits are packed."""
    return (math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth + 7) // 8


def _check_raw(tensor: onnx.TensorProto, dtype: ir.DataType, what: str) -> None:
    filled = [name for name in LISTS if len(getattr(tensor, name))]
    if filled:
        raise ModelError(f"{what}: has data in raw_data and in {filled[0]}: expected one of them")
    if dtype == ir.DataType.STRING:
        raise ModelError(f"{what}: strings cannot be in raw_data")
    needed, came = bytes_needed(tensor), len(tensor.raw_data)
    if needed != came:
        raise ModelError(f"{what}: {_described(tensor, dtype)} takes {needed} bytes, got {came}")


def _check_list(tensor: onnx.TensorProto, dtype: ir.DataType, what: str) -> None:
    expected = FIELDS.get(dtype.name, "int32_data")
    wrong = [name for name in LISTS if name != expected and len(getattr(tensor, name))]
    if wrong:
        raise ModelError(
            f"{what}: elements of type {dtype.name} belong into {expected}, got {wrong[0]}"
        )
    needed, came = _numbers_needed(tensor, dtype), len(getattr(tensor, expected))
    if needed != came:
        raise ModelError(
            f"{what}: {_described(tensor, dtype)} takes {needed} numbers in {expected}, got {came}"
        )


def _numbers_needed(tensor: onnx.TensorProto, dtype: ir.DataType) -> int:
    size = math.prod(tensor.dims)
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * size
    # Elements of 2 and 4 bits are packed: one number of int32_data holds one byte (onnx.proto).
    if dtype != ir.DataType.STRING and dtype.bitwidth in (2, 4):
        return bytes_needed(tensor)
    return size


def _described(tensor: onnx.TensorProto, dtype: ir.DataType) -> str:
    return f"{dtype.name} of shape {list(tensor.dims)}"
