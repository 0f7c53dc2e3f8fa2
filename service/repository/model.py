"""A model of the repository: a graph of others' making, behind checks that trust it in nothing."""

from __future__ import annotations

import ctypes
import math
import re
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
from gatewave.service.onnx.arena import Use, is_of_memory, is_scarce
from gatewave.service.onnx.engine import Engine
from gatewave.service.onnx.session import run_options
from gatewave.service.quoting import NOTHING, abridged
from gatewave.service.repository.files import MODEL, VersionFiles
from gatewave.service.serving.model import ANY, PLATFORM, Batching, Model, Port
from gatewave.service.system.cancellation import CancelToken

BF16 = "BF16"
LONGEST_REASON = 1 << 13
"""Limit in characters: ONNX Runtime's have hundreds, but names in a hostile graph have no limit."""

Symbols = tuple[str | None, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Declared(Model):
    """One version of a model of the repository, as its file declares it.

    Attributes:
        optional: Inputs that may be omitted: the graph has values for them.
        unranked: Inputs and outputs of any shape.
        symbols: Names of the open sizes of each port, as far as the graph gives them.
        instances: The most runs of it at a time; 0 leaves it to the lanes.
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
        """Refuse inputs that the graph does not take.

        Raises:
            RequestInvalid: It names the first that is missing, unknown or unfit.
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
        """How much memory the outputs will take; sizes that nothing tells count as 1."""
        sizes = {
            symbol: size
            for name, tensor in inputs.items()
            if name not in self.unranked
            for symbol, size in zip(self.symbols[name], tensor.shape, strict=True)
        }
        return sum(self._bytes(self.outputs_by_name[name], sizes) for name in outputs)

    def _check_tensor(self, port: Port, tensor: Array) -> None:
        came = datatype_of(tensor).name
        if came != port.datatype:
            raise RequestInvalid.at(f"inputs.{port.name}.datatype", port.datatype, came)
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
class RepositoryModel(Declared):
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
        scalars: Mapping[str, float],  # noqa: ARG002 - others' graphs have none
        token: CancelToken | None = None,
        *,
        reuse_inputs: bool = False,  # noqa: ARG002 - ONNX Runtime finds room for what others compute
    ) -> dict[str, Array]:
        """Compute ``outputs``.

        Raises:
            ModelFailed: The graph could not be run on these inputs, or was not let finish.
            Overloaded: There was too little memory, and others held some.
        """
        options = run_options(token)
        with Use() as use:
            try:
                feed = {name: _fed(tensor) for name, tensor in inputs.items()}
                results = self._run_with_room(feed, list(outputs), options)
            except Exception as error:  # ONNX Runtime's exceptions have no class in common but this
                if token is not None and token.is_cancelled:
                    raise ModelFailed("the run was ended: no caller waits for it") from error
                if use.shared and is_scarce(error, self.engine.arena_bytes):
                    raise Overloaded(
                        "memory", "other requests hold the memory of models"
                    ) from error
                raise ModelFailed(f"{self.name} cannot compute that: {reason(error)}") from error
            use.hold(results.values())
        return results

    def _run_with_room(
        self, feed: Mapping[str, Any], names: list[str], options: Any
    ) -> dict[str, Array]:
        """Run the graph; once more, if it may fit when nothing is kept for nobody."""
        try:
            return self._run(feed, names, options)
        except Exception as error:
            if not is_scarce(error, self.engine.arena_bytes):
                raise
        self.engine.shrink()
        return self._run(feed, names, options)

    def _run(self, feed: Mapping[str, Any], names: list[str], options: Any) -> dict[str, Array]:
        if not any(port.datatype == BF16 and port.name in names for port in self.outputs):
            return dict(zip(names, self.session.run(names, feed, options), strict=True))
        values = {
            name: value
            if isinstance(value, ort.OrtValue)
            else ort.OrtValue.ortvalue_from_numpy(value)
            for name, value in feed.items()
        }
        results = self.session.run_with_ort_values(names, values, options)
        return {name: _taken(result) for name, result in zip(names, results, strict=True)}


def _fed(tensor: Array) -> Any:
    """A tensor as ONNX Runtime takes it: strings as ``str``, bfloat16 as a value of its own."""
    if tensor.dtype == np.object_:
        return _text(tensor)
    contiguous = np.require(tensor, requirements=["C", "A"])
    datatype = datatype_of(contiguous)
    if datatype.name != BF16:
        return contiguous
    bits = contiguous.view(np.uint16)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, datatype.onnx)


def _text(tensor: Array) -> Array:
    flat = [item.decode() if isinstance(item, bytes) else item for item in tensor.reshape(-1)]
    texts = np.empty(len(flat), np.object_)
    texts[:] = flat
    return texts.reshape(tensor.shape)


def _taken(value: ort.OrtValue) -> Array:
    """A result as an array; bfloat16, that ONNX Runtime gives none of, is copied by address."""
    if value.data_type() != DATATYPES[BF16].ort:
        array: Array = value.numpy()
        return array
    shape = value.shape()
    bits = np.empty(shape, np.uint16)
    if bits.nbytes:
        ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits.view(DATATYPES[BF16].numpy)


def opened(
    files: VersionFiles,
    engine: Engine,
    shaped: frozenset[str],
    batching: Batching | None = None,
    batching_note: str = "",
    *,
    instances: int = 0,
    warmup: str = "",
) -> RepositoryModel:
    """Load a version.

    Args:
        files: Its files.
        engine: The engine that will run it.
        shaped: The inputs and outputs with a declared shape.
        batching: The batching of its requests.
        batching_note: The reason for batching or its absence.
        instances: The most runs of it at a time; 0 leaves it to the lanes.
        warmup: The shapes of inputs that it first ran on, if sizes were raised for it.

    Raises:
        ModelRefused: ONNX Runtime cannot load it, or requests cannot carry its inputs.
    """
    try:
        session, _ = engine.open(files.folder / MODEL, files.model, data=files.data)
    except ArtifactInvalid as error:
        why = reason(error.__cause__) if error.__cause__ else str(error)
        raise ModelRefused(f"ONNX Runtime {ort.__version__} cannot load it: {why}") from error
    needed, spare = session.get_inputs(), session.get_overridable_initializers()
    given = session.get_outputs()
    arguments = [*needed, *spare, *given]
    unranked = frozenset(a.name for a in arguments if not a.shape and a.name not in shaped)
    unranked -= {argument.name for argument in spare}
    model = RepositoryModel(
        name=files.folder.parent.name,
        version=files.folder.name,
        inputs=tuple(_port(argument, unranked) for argument in [*needed, *spare]),
        outputs=tuple(_port(argument, unranked) for argument in given),
        optional=frozenset(argument.name for argument in spare),
        unranked=unranked,
        symbols={argument.name: _symbols(argument, unranked) for argument in arguments},
        session=session,
        engine=engine,
        batching=batching,
        batching_note=batching_note,
        instances=instances,
        warmup=warmup,
    )
    _refuse_mixed(model)
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


def _refuse_mixed(model: RepositoryModel) -> None:
    """ONNX Runtime takes strings only where it gives arrays, and those it has none of bfloat16."""
    if any(port.datatype == BYTES for port in model.inputs) and any(
        port.datatype == BF16 for port in model.outputs
    ):
        raise ModelRefused("it takes strings and gives bfloat16, which cannot be had together")


PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
SOURCE = re.compile(
    r"/\S+\.(?:cc|h|cu|cuh):\d+(?: [\w:<>,&*~ ]*::[\w~]+\(.*?\)(?: const)?(?= |$))?"
)
"""A place in ONNX Runtime's source, and the C++ function there."""
NODE = re.compile(r"Non-zero status code returned while running (\S+) node\..*?Status Message: ?")
PATH = re.compile(r"(?:/[^\s/:\"']+){2,}")


def reason(error: BaseException) -> str:
    """Return the reason of an error of ONNX Runtime, in one line.

    Places in its source and on our disk are left out; the reason is not.
    """
    text = str(error)
    if is_of_memory(error):
        return "it asks for more memory than all models may take (GATEWAVE_ARENA_BYTES)"
    text = NODE.sub(r"\1: ", PREFIX.sub("", text))
    text = PATH.sub("…", SOURCE.sub("", text))
    text = " ".join(text.split()) or type(error).__name__
    return abridged(text, LONGEST_REASON)
