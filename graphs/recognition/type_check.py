"""Check that types and shapes of a candidate are those of an elementwise function."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from gatewave.graphs.analysis.constants import Constant, cast_target
from gatewave.graphs.analysis.shapes import Shapes
from gatewave.graphs.recognition.candidate import Candidate
from gatewave.graphs.recognition.expressions import ExpressionReader

WIDTHS = {
    ir.DataType.FLOAT16: {ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.BFLOAT16: {ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.FLOAT: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.DOUBLE: {ir.DataType.DOUBLE},
}
"""Types to which each type may be cast without loss."""


def misfit(candidate: Candidate, known: Shapes, reader: ExpressionReader) -> str:
    """Return the reason why types or shapes make it another function; empty without one."""
    reason = _of_types(candidate, known, reader)
    for tensor in candidate.inputs:
        reason = reason or _of_shapes(candidate, tensor, known)
    return reason


def _of_types(candidate: Candidate, known: Shapes, reader: ExpressionReader) -> str:
    """Check that the dtypes of inputs and output are equal, and that no inner dtype is narrower."""
    dtypes = {known.dtype(value) for value in (candidate.output, *candidate.inputs)} - {None}
    names = " and ".join(sorted(dtype.name for dtype in dtypes if dtype is not None))
    if len(dtypes) > 1:
        return f"its input and its output have different element types: {names}"
    if not dtypes <= {*WIDTHS}:
        return f"its element type is {names}"
    # Casts of float16 to float32 and back are how exporters compute in higher precision; a cast to
    # fewer digits is a function of its own.
    casts = [n for n in candidate.inside if n.op_type in {"Cast", "CastLike"} and n.domain == ""]
    targets = {*(_cast_to(cast, known) for cast in casts), *reader.casts_within(candidate.inside)}
    # Casts to BOOL make conditions; their effect is part of the compared values.
    targets -= {ir.DataType.BOOL}
    if not targets:
        return ""
    if not dtypes:
        return "its element type is not known, and a cast is inside"
    (dtype,) = dtypes
    narrow = targets - {*WIDTHS[dtype]}  # type: ignore[index]
    if not narrow:
        return ""
    cast = ", ".join(sorted("an unknown type" if to is None else to.name for to in narrow))
    return f"a cast inside, of {names} to {cast}, loses digits"


def _cast_to(cast: ir.Node, known: Shapes) -> ir.DataType | None:
    if cast.op_type == "Cast":
        return cast_target(cast)
    return known.dtype(cast.outputs[0])


def _of_shapes(candidate: Candidate, tensor: ir.Value, known: Shapes) -> str:
    """Check that neither another input nor a constant changes the shape of ``tensor``."""
    if known.differ(candidate.output, tensor):
        given = f"{_shown(tensor, known)} becomes {_shown(candidate.output, known)}"
        return f"its input's shape is not that of its output: {given}"
    for constant in _with_axes(candidate, tensor):
        if not _keeps(constant, tensor, known, equal=known.equal(candidate.output, tensor)):
            return f"a constant of {_shape_of(constant)} may change the shape of {tensor.name}"
    return ""


def _shown(value: ir.Value, known: Shapes) -> str:
    shape = known.shape(value)
    return "[?]" if shape is None else str(shape)


def _shape_of(constant: Constant) -> str:
    return "unknown shape" if constant.shape is None else f"shape {[*constant.shape]}"


def _with_axes(candidate: Candidate, tensor: ir.Value) -> Iterator[Constant]:
    """Yield the constants that are not scalars and do not get their shape from ``tensor``."""
    alike = {tensor, *(value for node in candidate.inside for value in node.outputs)}
    for constant in candidate.constants:
        if constant.shape != () and constant.like not in alike:
            yield constant


def _keeps(constant: Constant, tensor: ir.Value, known: Shapes, *, equal: bool) -> bool:
    """Return true if a constant is not known to change the shape of ``tensor``.

    A constant of many equal numbers must have exactly that shape. With fewer axes, it is a row of
    weights that happen to be equal.
    """
    if constant.shape is None:
        return equal
    # Ones of the whole shape act as a scalar; JAX writes them. A row of ones is a weight.
    of_tensor = known.shape(tensor)
    if math.prod(constant.shape) != 1:
        return of_tensor is not None and tuple(of_tensor) == constant.shape
    return equal or of_tensor is None or len(constant.shape) <= len(of_tensor)


def doubt(candidate: Candidate, known: Shapes) -> str:
    """Return the reason why its output may have more axes than its input; empty if it cannot.

    A number of shape ``[1]`` acts like a scalar, but turns a scalar into a vector, and a value of
    unknown rank may be a scalar.
    """
    for tensor in candidate.inputs:
        rank = known.least_rank(tensor)
        for constant in _with_axes(candidate, tensor):
            wide = constant.shape is not None and len(constant.shape) > rank
            if wide and known.shape(tensor) is None and not known.equal(candidate.output, tensor):
                return (
                    f"the rank of {tensor.name} is not known, so that a constant of "
                    f"{_shape_of(constant)} inside may add an axis to it"
                )
    return ""
