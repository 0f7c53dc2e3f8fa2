"""Model that computes an activation: one loaded artifact, for one dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gatewave.service.codecs.datatypes import NUMPY, Array, DType
from gatewave.service.codecs.rounding import narrowed
from gatewave.service.errors import Overloaded, RequestInvalid
from gatewave.service.onnx.arena import is_scarce
from gatewave.service.onnx.session import Session
from gatewave.service.serving.model import PLATFORM, Batching, Model, Port, check_names_and_types
from gatewave.service.system.cancellation import CancelToken


@dataclass(frozen=True, eq=False)
class ActivationModel(Model):
    """One loaded artifact: an elementwise function in one dtype, of tensors of equal shapes.

    Attributes:
        kind: ``value``, ``grad`` or ``vjp``.
        implementation: ``native avx512`` for a kernel, ``function body`` without a kernel for its
            node, or ``standard operators`` for a decomposed graph.
    """

    path: Path
    kind: str
    dtype: DType
    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    scalars: Mapping[str, float]
    session: Session
    implementation: str
    version: str = "1"
    platform: str = PLATFORM
    batching: Batching | None = None
    trusted: bool = True

    @property
    def provider(self) -> str:
        return self.session.provider

    def check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse tensors that are missing, unknown, of another dtype, or of different shapes.

        Raises:
            RequestInvalid: The error names the first such tensor.
        """
        check_names_and_types(self, inputs)
        self.check_shapes(inputs)

    def check_shapes(self, inputs: Mapping[str, Array]) -> None:
        """Refuse tensors of different shapes.

        Raises:
            RequestInvalid: The error names the first that differs.
        """
        first, *others = self.input_names
        for name in others:
            if inputs[name].shape != inputs[first].shape:
                expected = f"the shape of {first}, {list(inputs[first].shape)}"
                raise RequestInvalid.at(f"inputs.{name}", expected, list(inputs[name].shape))

    def output_bytes(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> int:
        return inputs[self.input_names[0]].nbytes * len(outputs)

    def run(
        self,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        scalars: Mapping[str, float],
        token: CancelToken | None = None,  # noqa: ARG002 - one node, or a few: it ends soon
        *,
        reuse_inputs: bool = False,
    ) -> dict[str, Array]:
        """Compute ``outputs``; they have the shape of ``inputs``.

        Raises:
            Overloaded: There is no memory for the intermediate results of a slice.
        """
        first = inputs[self.input_names[0]]
        shape = first.shape
        if not first.size:
            return {name: np.empty(shape, NUMPY[self.dtype]) for name in outputs}
        flat = {name: _flat(tensor) for name, tensor in inputs.items()}
        for name, value in scalars.items():
            flat[name] = np.array(value, self._wide)
        results = self._run(flat, first.size, outputs, reuse_inputs=reuse_inputs)
        if len(shape) == 1:
            return results
        return {name: result.reshape(shape) for name, result in results.items()}

    def _run(
        self, flat: Mapping[str, Array], length: int, outputs: Sequence[str], *, reuse_inputs: bool
    ) -> dict[str, Array]:
        try:
            return self.session.run(flat, length, outputs, reuse_inputs=reuse_inputs)
        except Exception as error:  # the only common base of ONNX Runtime's exceptions
            if is_scarce(error):
                # A slice is small, so the arena is full of the results of other requests.
                raise Overloaded("memory", "others' results hold ONNX Runtime's") from error
            raise

    def scalar(self, name: str, value: object, *, at: str = "parameters") -> float:
        exact = super().scalar(name, value, at=at)
        if self.dtype != "float64" and narrowed(np.array(exact), "float32")[1] is not None:
            raise RequestInvalid.at(f"{at}.{name}", "a number within the range of float32", value)
        return exact

    @property
    def _wide(self) -> np.dtype[Any]:
        """Dtype of scalar parameters: 16-bit graphs compute in float32."""
        return NUMPY["float64" if self.dtype == "float64" else "float32"]


def _flat(tensor: Array) -> Array:
    """Return the elements as one axis; ONNX Runtime requires contiguous, aligned memory."""
    if tensor.ndim == 1 and tensor.flags.c_contiguous and tensor.flags.aligned:
        return tensor
    return np.require(tensor, requirements=["C", "A"]).reshape(-1)
