"""Benchmark of batching for repository models, with many concurrent requests of one row.

python -m benchmarks.batching
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.timing import machine
from gatewave.service.onnx.engine import Engine
from gatewave.service.repository.config import parse
from gatewave.service.repository.files import read_version
from gatewave.service.repository.model import InProcessModel, open_model
from gatewave.service.repository.rowwise.analysis import unshown
from gatewave.service.repository.trial.batching import decide, not_batched, seconds_of
from gatewave.service.serving.memory import Budget
from gatewave.service.serving.model import Batching
from gatewave.service.serving.pipeline import Pipeline
from gatewave.service.serving.request import InferenceRequest
from gatewave.service.serving.worker_pool import WorkerPool
from gatewave.service.system import cpus

MAX_BYTES = 1 << 30
CALLERS = 32
ROWS = 32
SECONDS = 1.5
TURNS = 3
SOURCE = np.random.default_rng(0)


def main() -> None:
    print(f"{CALLERS} callers, one row each, at most {ROWS} rows in a run; on {machine()}.")
    print("Thousands of requests a second, the best of each; 8 rows together, of 8 alone.\n")
    print("| model | alone | batched | gain | 8 rows | verification |")
    print("|---|---|---|---|---|---|")
    engine = Engine.start("cpu", cpus.available())
    with tempfile.TemporaryDirectory() as folder:
        for name, build in MODELS.items():
            version = Path(folder, name, "1")
            version.mkdir(parents=True)
            onnx.save(build(), version / "model.onnx")
            found, files = read_version(Path(folder), version, MAX_BYTES)
            model = open_model(files, engine, found.shaped)
            print(_row(model, unshown(files.model)), flush=True)


def _row(model: InProcessModel, doubt: str) -> str:
    alone, batched = 0.0, 0.0
    for _ in range(TURNS):
        alone = max(alone, _rate(model))
        batched = max(batched, _rate(replace(model, batching=Batching(ROWS))))
    one, eight = (seconds_of(model, _inputs(model, rows)) for rows in (1, 8))
    batching, note = decide(model, parse(f"batching: {{max_size: {ROWS}}}"), doubt)
    said = "within 1 ULP" if batching else note.removeprefix(not_batched(""))
    return (
        f"| {model.name} | {alone / 1e3:.2f} | {batched / 1e3:.2f} | {batched / alone:.2f} "
        f"| {eight / one / 8:.2f} | {said} |"
    )


def _rate(model: InProcessModel) -> float:
    """Return requests per second."""
    return asyncio.run(_load(model))


async def _load(model: InProcessModel) -> float:
    worker_pool = WorkerPool(cpus.available(), 2 * CALLERS)
    pipeline = Pipeline(worker_pool, Budget(1 << 30), inline_bytes=0, output_bytes=1 << 30)
    call = InferenceRequest(model, _inputs(model, 1), model.output_names)
    ends = time.perf_counter() + SECONDS

    async def caller() -> int:
        count = 0
        while time.perf_counter() < ends:
            with pipeline.budget.permit() as permit:
                await pipeline.infer(call, permit)
            count += 1
        return count

    try:
        counts = await asyncio.gather(*(caller() for _ in range(CALLERS)))
    finally:
        worker_pool.close()
    return sum(counts) / SECONDS


def _inputs(model: InProcessModel, rows: int) -> dict[str, np.ndarray]:
    (port,) = model.inputs
    return {port.name: SOURCE.standard_normal((rows, *port.shape[1:])).astype(np.float32)}


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(SOURCE.standard_normal(shape).astype(np.float32) / 16, name)


def _model(
    nodes: list[onnx.NodeProto], shape: list[int], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [x], [y], weights)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def elementwise() -> onnx.ModelProto:
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Mul", ["x", "s"], ["y"])]
    return _model(nodes, [64], [])


def perceptron() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    return _model(nodes, [256], [_weight("w", 256, 1024), _weight("v", 1024, 256)])


def convolutions() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    return _model(nodes, [3, 32, 32], [_weight("w", 16, 3, 3, 3), _weight("v", 16, 16, 3, 3)])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "elementwise, 64": elementwise,
    "perceptron, 256 × 1024 × 256": perceptron,
    "convolutions, 3 × 32 × 32": convolutions,
}

if __name__ == "__main__":
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    main()
