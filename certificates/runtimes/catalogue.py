"""Known runtimes: names, requirements and adapters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gatewave.graphs.errors import TargetError
from gatewave.models import DType

Language = Literal["python", "node"]
Device = Literal["cpu", "cuda"]

LONG: tuple[DType, ...] = ("float32", "float64")
FLOAT32: tuple[DType, ...] = ("float32",)
NO_FLOAT64: tuple[DType, ...] = ("float16", "bfloat16", "float32")
NO_BFLOAT16: tuple[DType, ...] = ("float16", "float32", "float64")
ALL: tuple[DType, ...] = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One runtime, in one version.

    Attributes:
        name: Name on the command line, and of its environment.
        title: Name for display.
        worker: Its adapter, a file in `workers`.
        requirements: Requirements of its environment: a file in `requirements` for pip, or a folder
            with a ``package-lock.json`` for npm. If empty, it runs in our own environment.
        target: Its target for `lower`; empty if it runs every operator of the standard.
        dtypes: Element types that it computes.
        static: True if it takes fixed shapes only.
        language: Interpreter of the adapter.
        device: Device of the computation; without a GPU there is no `cuda`.
        models: True if it runs users' models, not only activations.
        options: Further arguments of the adapter's `load`.
    """

    name: str
    title: str
    worker: str
    requirements: str
    target: str
    dtypes: tuple[DType, ...]
    static: bool = False
    language: Language = "python"
    device: Device = "cpu"
    models: bool = True
    options: tuple[str, ...] = ()


def _onnxruntime(version: str, target: str) -> Runtime:
    return Runtime(
        name=f"onnxruntime-{target}",
        title=f"ONNX Runtime {version}",
        worker="onnxruntime.py",
        requirements=f"onnxruntime-{target}.txt",
        target=f"onnxruntime-{target}-cpu",
        dtypes=NO_BFLOAT16,
    )


def _source(name: str, title: str) -> Runtime:
    """Return a runtime that stands for a framework from which models are moved."""
    return Runtime(
        name=name,
        title=title,
        worker=f"{name}.py",
        requirements="",
        target="",
        dtypes=ALL,
        models=False,
    )


_COMPILERS = (
    Runtime(
        name="openvino",
        title="OpenVINO 2026.4.1",
        worker="openvino.py",
        requirements="openvino.txt",
        target="openvino",
        dtypes=NO_FLOAT64,
    ),
    Runtime(
        name="tvm",
        title="Apache TVM 0.27.0",
        worker="tvm.py",
        requirements="tvm.txt",
        target="tvm",
        dtypes=ALL,
    ),
    Runtime(
        name="iree",
        title="IREE 3.13.0",
        worker="iree.py",
        requirements="iree.txt",
        target="iree",
        dtypes=ALL,
    ),
    Runtime(
        name="tract",
        title="tract 0.23.9",
        worker="tract.py",
        requirements="tract.txt",
        target="tract",
        dtypes=NO_BFLOAT16,
    ),
    Runtime(
        name="ncnn",
        title="ncnn 20261020, through pnnx",
        worker="ncnn.py",
        requirements="ncnn.txt",
        target="ncnn",
        dtypes=FLOAT32,
        static=True,
    ),
)


RUNTIMES: Mapping[str, Runtime] = MappingProxyType(
    {
        runtime.name: runtime
        for runtime in (
            Runtime(
                name="reference",
                title="the onnx reference evaluator",
                worker="reference.py",
                requirements="",
                target="",
                dtypes=ALL,
            ),
            _source("numpy", "NumPy"),
            _source("torch", "Torch, eagerly"),
            Runtime(
                name="onnxruntime",
                title="ONNX Runtime, as installed",
                worker="onnxruntime.py",
                requirements="",
                target="this",
                dtypes=NO_BFLOAT16,
            ),
            _onnxruntime("1.20.1", "1.20"),
            _onnxruntime("1.24.4", "1.24"),
            _onnxruntime("1.27.0", "1.27"),
            _onnxruntime("1.31.1", "1.31"),
            _onnxruntime("1.32.0", "1.32"),
            Runtime(
                name="onnxruntime-cuda",
                title="ONNX Runtime 1.31.1 on CUDA",
                worker="onnxruntime-cuda.py",
                requirements="onnxruntime-cuda.txt",
                target="onnxruntime-1.31-cuda",
                dtypes=NO_BFLOAT16,
                device="cuda",
            ),
            *_COMPILERS,
            Runtime(
                name="onnxruntime-node",
                title="ONNX Runtime 1.30.0 for Node",
                worker="onnxruntime-node.mjs",
                requirements="onnxruntime-node",
                target="onnxruntime-1.30-cpu",
                dtypes=NO_BFLOAT16,
                language="node",
            ),
            Runtime(
                name="onnxruntime-web",
                title="ONNX Runtime Web 1.30.0, wasm under Node",
                worker="onnxruntime-web.mjs",
                requirements="onnxruntime-web",
                target="onnxruntime-web",
                dtypes=NO_BFLOAT16,
                language="node",
            ),
            Runtime(
                name="litert",
                title="LiteRT 2.1.2, through onnx2tf 2.6.9",
                worker="litert.py",
                requirements="litert.txt",
                target="litert",
                dtypes=FLOAT32,  # onnx2tf 2.6.9 converts float16 to float32
                static=True,
            ),
            Runtime(
                name="tensorflow",
                title="TensorFlow 2.21.0, through onnx2tf 2.6.9",
                worker="tensorflow.py",
                requirements="tensorflow.txt",
                target="tensorflow",
                dtypes=LONG,  # as for LiteRT
                static=True,
            ),
            Runtime(
                name="onnx2torch",
                title="Torch 2.13.0, through onnx2torch 1.5.15",
                worker="onnx2torch.py",
                requirements="onnx2torch.txt",
                target="onnx2torch",
                dtypes=NO_BFLOAT16,
            ),
            Runtime(
                name="jaxonnxruntime",
                title="JAX 0.10.2, through jaxonnxruntime 0.3.0",
                worker="jaxonnxruntime.py",
                requirements="jaxonnxruntime.txt",
                target="jaxonnxruntime",
                dtypes=ALL,
            ),
        )
    }
)
"""Runtimes by name, in the order of tables."""


PLAIN = Runtime(
    name="onnxruntime-plain",
    title="ONNX Runtime without its optimisations",
    worker="onnxruntime.py",
    requirements="",
    target="this",
    dtypes=NO_BFLOAT16,
    options=("plain",),
)
"""The installed ONNX Runtime without optimisations, for baselines; it is not in the list."""


def find(name: str) -> Runtime:
    """Return the runtime called ``name``.

    Raises:
        TargetError: There is no such runtime; the message names similar ones, or all.
    """
    try:
        return RUNTIMES[name]
    except KeyError:
        close = difflib.get_close_matches(name, RUNTIMES, n=3)
        meant = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(RUNTIMES)}"
        raise TargetError(f"there is no runtime {name!r}; {meant}") from None
