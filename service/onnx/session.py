"""Sessions of ONNX Runtime that compute activations, and the cancellation of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort

from gatewave.service.codecs.datatypes import NUMPY, Array, DType, datatype_of
from gatewave.service.system.cancellation import CancelToken

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

BIND_FROM = 1 << 14
"""Number of elements from which binding the results costs less than copying them."""

SLICE = 1 << 16
"""Number of elements that a graph of several nodes computes at a time on a CPU. Intermediate
results then stay in the processor's cache: at 1 Mi elements this takes half of the time of one
pass, and almost no memory."""

Reopen = Callable[[], ort.InferenceSession]


def run_options(token: CancelToken | None) -> ort.RunOptions | None:
    """Return options with which a run ends when ``token`` is cancelled.

    ONNX Runtime reads ``terminate`` between the nodes of a graph, and a single long node runs to
    its end. Options are made for each run: ``terminate`` stays set.
    """
    if token is None:
        return None
    options = ort.RunOptions()

    def terminate() -> None:
        options.terminate = True

    token.on_cancel(terminate)
    return options


class Session:
    """One ONNX graph, ready to run: tensors of one axis in, tensors of one axis out.

    Of the many graphs, most are never requested. An unloaded graph takes a tenth of the memory, and
    a millisecond to open.

    Attributes:
        provider: ONNX Runtime's execution provider.
    """

    def __init__(
        self,
        opened: ort.InferenceSession,
        reopen: Reopen,
        dtype: DType,
        *,
        in_one_pass: bool = False,
    ) -> None:
        """Wrap an open session.

        Args:
            opened: The session.
            reopen: Opens another session of the same graph.
            dtype: The element type of its tensors.
            in_one_pass: True if the graph is one native kernel. It reads each element before it
                writes the result, and has no intermediate results.
        """
        self.provider: str = opened.get_providers()[0]
        self._outputs = [output.name for output in opened.get_outputs()]
        self._opened: ort.InferenceSession | None = opened
        self._reopen = reopen
        self._dtype = dtype
        self._in_one_pass = in_one_pass and self.provider == CPU

    def unload(self) -> None:
        """Close the session until the next run, to save memory."""
        self._opened = None

    @property
    def _session(self) -> ort.InferenceSession:
        opened = self._opened
        if opened is None:
            # Two threads may both open it: then one of the two equal sessions is freed.
            opened = self._opened = self._reopen()
        return opened

    def run(
        self,
        inputs: Mapping[str, Array],
        length: int,
        outputs: Sequence[str] | None = None,
        *,
        reuse_inputs: bool = False,
    ) -> dict[str, Array]:
        """Evaluate the graph; arrays are flat, contiguous and aligned, results likewise.

        Args:
            inputs: Tensors of ``length`` elements, and scalars.
            length: Number of elements of a result.
            outputs: Names of the outputs to compute; None means all.
            reuse_inputs: Permission to write results into the memory of ``inputs``.
        """
        names = self._outputs if outputs is None else outputs
        if self._dtype == "bfloat16" or length >= BIND_FROM:
            return self._run_bound(inputs, length, names, reuse_inputs=reuse_inputs)
        # The session of the extension: the wrapper looks for absent inputs, which the caller has
        # checked, and would fall back to another provider. It takes 1.3 of 5.3 µs for 64 elements.
        results = self._session._sess.run(names, inputs, None)  # noqa: SLF001
        return dict(zip(names, results, strict=True))

    def _run_bound(
        self,
        inputs: Mapping[str, Array],
        length: int,
        names: Sequence[str],
        *,
        reuse_inputs: bool,
    ) -> dict[str, Array]:
        """Evaluate the graph with inputs and outputs bound by address.

        Results are not copied; and bfloat16 passes, which ONNX Runtime cannot convert from or to
        NumPy.
        """
        step = SLICE if self.provider == CPU and not self._in_one_pass else length
        # Tensors decoded from a request are read-only if they are views of its body.
        writable = [array for array in inputs.values() if array.ndim and array.flags.writeable]
        may_reuse = reuse_inputs and (self._in_one_pass or length > step)
        reused = dict(zip(names, writable, strict=False)) if may_reuse else {}
        # A graph of several nodes may read an input again after it has written a result. So each
        # slice goes through a buffer, and replaces the input's slice when the run has ended.
        buffered = () if self._in_one_pass else reused
        buffers = {name: np.empty(step, NUMPY[self._dtype]) for name in buffered}
        results = {
            name: reused[name] if name in reused else np.empty(length, NUMPY[self._dtype])
            for name in names
        }
        session = self._session
        binding = session.io_binding()
        for start in range(0, length, step):
            part = slice(start, min(start + step, length))
            for name, array in inputs.items():
                _bind(binding.bind_input, name, array[part] if array.ndim else array)
            for name, array in results.items():
                written = buffers[name][: part.stop - start] if name in buffers else array[part]
                _bind(binding.bind_output, name, written)
            session.run_with_iobinding(binding)
            for name, written in buffers.items():
                results[name][part] = written[: part.stop - start]
        return results


def _bind(bind: Callable[..., None], name: str, array: Array) -> None:
    bind(name, "cpu", 0, datatype_of(array).onnx, array.shape, array.ctypes.data)
