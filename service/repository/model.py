"""Model of the repository: an untrusted graph, whose requests are checked before it runs."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort

from gatewave.service.codecs.datatypes import BY_ORT, BYTES, DATATYPES, Array, datatype_of
from gatewave.service.errors import (
    ArtifactInvalid,
    ModelFailed,
    ModelRefused,
    Overloaded,
    RequestInvalid,
)
from gatewave.service.onnx.arena import Use, is_scarce
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import run_options
from gatewave.service.quoting import NOTHING
from gatewave.service.repository.files import MODEL, VersionFiles
from gatewave.service.repository.runtime_errors import message_of
from gatewave.service.serving.model import ANY, PLATFORM, Batching, Model, Port
from gatewave.service.system.cancellation import CancelToken

BF16 = "BF16"

Symbols = tuple[str | None, ...]
"""Names of the open sizes of one port, by axis; None for other sizes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RepositoryModel(Model):
    """One version of a model, as its file declares it; a subclass computes it.

    Attributes:
        optional: Inputs that may be omitted: the graph has values for them.
        unranked: Inputs and outputs of any shape.
        symbols: Names of the open sizes of each port, as far as the graph gives them.
        instances: The largest number of concurrent runs; 0 means no limit of its own.
        isolation: The reason why it is computed in processes of its own; empty if it is not.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.
    """

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    optional: frozenset[str]
    unranked: frozenset[str]
    symbols: Mapping[str, Symbols]
    batching: Batching | None = None
    batching_note: str = ""
    scalars: Mapping[str, float] = field(default_factory=dict)
    platform: str = PLATFORM
    trusted: bool = False
    instances: int = 0
    isolation: str = ""
    warmup: str = ""

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Check the inputs of a request.

        Raises:
            RequestInvalid: An input is missing, unknown, or of another datatype or shape.
        """
        for port in self.inputs:
            tensor = inputs.get(port.name)
            if tensor is not None:
                self._check_tensor(port, tensor)
            elif port.name not in self.optional:
                needed = ", ".join(n for n in self.input_names if n not in self.optional)
                expected = f"a tensor: {self.name} needs {needed}"
                raise RequestInvalid.at(f"inputs.{port.name}", expected, NOTHING)
        for name in inputs:
            if name not in self.inputs_by_name:
                expected = f"only {', '.join(self.input_names) or 'no inputs'}"
                raise RequestInvalid.at(f"inputs.{name}", expected, name)
        if self.batching is not None:
            self._check_rows(inputs)

    def output_bytes(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> int:
        """Return the bytes of the outputs; sizes that the inputs do not determine count as 1."""
        sizes = {
            symbol: size
            for name, tensor in inputs.items()
            if name not in self.unranked
            for symbol, size in zip(self.symbols[name], tensor.shape, strict=True)
        }
        return sum(self._bytes(self.outputs_by_name[name], sizes) for name in outputs)

    def _check_tensor(self, port: Port, tensor: Array) -> None:
        datatype = datatype_of(tensor).name
        if datatype != port.datatype:
            raise RequestInvalid.at(f"inputs.{port.name}.datatype", port.datatype, datatype)
        if port.name in self.unranked:
            return
        fits = len(tensor.shape) == len(port.shape) and all(
            size in {ANY, got} for size, got in zip(port.shape, tensor.shape, strict=True)
        )
        if not fits:
            expected = f"{list(port.shape)}, where {ANY} is any size"
            raise RequestInvalid.at(f"inputs.{port.name}.shape", expected, list(tensor.shape))

    def _check_rows(self, inputs: Mapping[str, Array]) -> None:
        """Check that all tensors of a batched request have the same number of rows."""
        rows = {name: tensor.shape[0] for name, tensor in inputs.items()}
        first = next(iter(rows))
        for name, count in rows.items():
            if count != rows[first]:
                expected = f"{rows[first]} rows, as {first} has"
                raise RequestInvalid.at(f"inputs.{name}.shape", expected, count)

    def _bytes(self, port: Port, sizes: Mapping[str | None, int]) -> int:
        known = (
            sizes.get(symbol, 1) if symbol is not None and size == ANY else max(size, 1)
            for size, symbol in zip(port.shape, self.symbols[port.name], strict=True)
            if size
        )
        empty = 0 in port.shape
        return 0 if empty else math.prod(known) * DATATYPES[port.datatype].numpy.itemsize


@dataclass(frozen=True, eq=False, kw_only=True)
class InProcessModel(RepositoryModel):
    """One version of a model of the repository, computed in this process."""

    session: ort.InferenceSession
    engine: Engine

    @property
    def provider(self) -> str:
        provider: str = self.session.get_providers()[0]
        return provider

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        scalars: Mapping[str, float],  # noqa: ARG002 - untrusted graphs have none
        token: CancelToken | None = None,
        *,
        reuse_inputs: bool = False,  # noqa: ARG002 - ONNX Runtime allocates the results
    ) -> dict[str, Array]:
        """Compute ``outputs``.

        Raises:
            ModelFailed: The graph could not be run on these inputs, or the run was cancelled.
            Overloaded: There was too little memory because other requests use some.
        """
        options = run_options(token)
        with Use() as use:
            try:
                feed = {name: _to_feed(tensor) for name, tensor in inputs.items()}
                results = self._run_or_shrink(feed, list(outputs), options)
            except Exception as error:  # the exceptions of ONNX Runtime have no other common base
                if token is not None and token.is_cancelled:
                    raise ModelFailed("the run was cancelled: no caller waits for it") from error
                # Other runs hold memory of the arena: the same request may succeed later, and its
                # caller should retry.
                if use.shared and is_scarce(error, self.engine.arena_bytes):
                    raise Overloaded("memory", "other requests use the memory of models") from error
                raise ModelFailed(
                    f"{self.name} cannot compute that: {message_of(error)}"
                ) from error
            use.hold(results.values())
        return results

    def _run_or_shrink(
        self, feed: Mapping[str, Any], names: list[str], options: Any
    ) -> dict[str, Array]:
        """Run the graph; if memory is short, release unused memory and run it again."""
        try:
            return self._run(feed, names, options)
        except Exception as error:
            if not is_scarce(error, self.engine.arena_bytes):
                raise
        self.engine.shrink()
        return self._run(feed, names, options)

    def _run(self, feed: Mapping[str, Any], names: list[str], options: Any) -> dict[str, Array]:
        # ONNX Runtime has no NumPy arrays of bfloat16: such outputs need its own values, and then
        # all inputs do.
        if not any(port.datatype == BF16 and port.name in names for port in self.outputs):
            return dict(zip(names, self.session.run(names, feed, options), strict=True))
        values = {
            name: value
            if isinstance(value, ort.OrtValue)
            else ort.OrtValue.ortvalue_from_numpy(value)
            for name, value in feed.items()
        }
        results = self.session.run_with_ort_values(names, values, options)
        return {name: _to_array(result) for name, result in zip(names, results, strict=True)}


def _to_feed(tensor: Array) -> Any:
    """Return a tensor in the form of ONNX Runtime: strings as ``str``, bfloat16 as an OrtValue."""
    if tensor.dtype == np.object_:
        return _to_text(tensor)
    contiguous = np.require(tensor, requirements=["C", "A"])
    datatype = datatype_of(contiguous)
    if datatype.name != BF16:
        return contiguous
    bits = contiguous.view(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, datatype.onnx)


def _to_text(tensor: Array) -> Array:
    flat = [item.decode() if isinstance(item, bytes) else item for item in tensor.reshape(-1)]
    texts = np.empty(len(flat), np.object_)
    texts[:] = flat
    return texts.reshape(tensor.shape)


def _to_array(value: ort.OrtValue) -> Array:
    """Return a result as an array.

    bfloat16 is copied from its address, because `OrtValue.numpy` does not support it (1.32).
    """
    if value.data_type() != DATATYPES[BF16].ort:
        array: Array = value.numpy()
        return array
    shape = value.shape()
    bits = np.empty(shape, np.uint16)
    if bits.nbytes:
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits.view(DATATYPES[BF16].numpy)


def open_model(
    files: VersionFiles,
    engine: Engine,
    shaped: frozenset[str],
    batching: Batching | None = None,
    batching_note: str = "",
    *,
    instances: int = 0,
    warmup: str = "",
) -> InProcessModel:
    """Open a version in this process.

    Args:
        files: Its files.
        engine: The engine that will run it.
        shaped: The inputs and outputs with a declared shape.
        batching: The batching of its requests.
        batching_note: The reason for batching or its absence.
        instances: The largest number of concurrent runs; 0 means no limit of its own.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.

    Raises:
        ModelRefused: ONNX Runtime cannot load it, or its inputs or outputs are not tensors of the
            protocol.
    """
    try:
        session, _ = engine.open(files.folder / MODEL, files.model, data=files.data)
    except ArtifactInvalid as error:
        message = message_of(error.__cause__) if error.__cause__ else str(error)
        raise ModelRefused(f"ONNX Runtime {ort.__version__} cannot load it: {message}") from error
    required, optional = session.get_inputs(), session.get_overridable_initializers()
    outputs = session.get_outputs()
    arguments = [*required, *optional, *outputs]
    # ONNX Runtime reports the shape [] for scalars and for unknown shapes.
    unranked = frozenset(a.name for a in arguments if not a.shape and a.name not in shaped)
    unranked -= {argument.name for argument in optional}
    model = InProcessModel(
        name=files.folder.parent.name,
        version=files.folder.name,
        inputs=tuple(_port(argument, unranked) for argument in [*required, *optional]),
        outputs=tuple(_port(argument, unranked) for argument in outputs),
        optional=frozenset(argument.name for argument in optional),
        unranked=unranked,
        symbols={argument.name: _symbols(argument, unranked) for argument in arguments},
        session=session,
        engine=engine,
        batching=batching,
        batching_note=batching_note,
        instances=instances,
        warmup=warmup,
    )
    _check_datatypes(model)
    return model


def _port(argument: Any, unranked: frozenset[str]) -> Port:
    datatype = BY_ORT.get(argument.type)
    if datatype is None:
        expected = "a tensor of a type that the Open Inference Protocol has"
        raise ModelRefused(f"{argument.name}: expected {expected}, got {argument.type}")
    if argument.name in unranked:
        return Port(argument.name, datatype.name, (ANY,))
    return Port(argument.name, datatype.name, tuple(map(_size, argument.shape)))


def _size(size: object) -> int:
    return size if isinstance(size, int) and size >= 0 else ANY


def _symbols(argument: Any, unranked: frozenset[str]) -> Symbols:
    if argument.name in unranked:
        return (None,)
    return tuple(size if isinstance(size, str) else None for size in argument.shape)


def _check_datatypes(model: InProcessModel) -> None:
    """Refuse models with string inputs and bfloat16 outputs.

    ONNX Runtime accepts strings as arrays only, and returns bfloat16 as OrtValues only; a run uses
    one or the other.
    """
    if any(port.datatype == BYTES for port in model.inputs) and any(
        port.datatype == BF16 for port in model.outputs
    ):
        raise ModelRefused("string inputs and bfloat16 outputs are not supported together")
