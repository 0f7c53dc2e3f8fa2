"""Metadata of the server and its models, with the field names of the protocol's JSON.

The messages of gRPC have the same names, and are made of the same documents.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from gatewave.service.codecs.datatypes import BYTES
from gatewave.service.observability.metrics import ModelTotals, numbers
from gatewave.service.serving.model import Model, Port
from gatewave.service.serving.registry import Registry

Document = dict[str, Any]

EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
NANOSECONDS = 1e9


def server() -> Document:
    return {"name": "gatewave", "version": version("gatewave"), "extensions": EXTENSIONS}


def model_metadata(registry: Registry, model: Model) -> Document:
    """Describe a model in the fields that the protocol has over HTTP and gRPC alike."""
    return {
        "name": model.name,
        "versions": sorted(registry.models[model.name].ready, key=int),
        "platform": model.platform,
        "inputs": [_tensor(port) for port in model.inputs],
        "outputs": [_tensor(port) for port in model.outputs],
    }


def model_parameters(model: Model) -> dict[str, str]:
    """Return the reasons for batching and isolated processes, and shapes that were found."""
    notes = {
        "batching": model.batching_note,
        "isolation": model.isolation,
        "warmup": model.warmup,
    }
    return {name: note for name, note in notes.items() if note}


def model_config(model: Model) -> Document:
    """Return the configuration of a model, in the fields of Triton's ``ModelConfig``."""
    batching = model.batching
    document: Document = {
        "name": model.name,
        "platform": model.platform,
        "backend": "onnxruntime",
        "max_batch_size": batching.max_size if batching else 0,
        "input": [_configured(port, batched=batching is not None) for port in model.inputs],
        "output": [_configured(port, batched=batching is not None) for port in model.outputs],
        "instance_group": [{"kind": _kind(model), "count": model.instances or 1}],
    }
    if batching:
        delay = round(batching.max_delay * 1e6)
        document["dynamic_batching"] = {"max_queue_delay_microseconds": delay}
    parameters = model_parameters(model)
    if parameters:
        document["parameters"] = {name: {"string_value": text} for name, text in parameters.items()}
    return document


async def statistics(registry: Registry, name: str = "", version: str = "") -> Document:
    """Return counts and durations of one model, of one of its versions, or of all ready models.

    Raises:
        NameUnknown: There is no such model or version.
        ModelNotReady: The model is known, but does not answer now.
    """
    models = _models(registry, name, version)
    # In a thread, since the numbers of several workers are read from shared tables. The registry
    # is read here, because models come and go on the event loop.
    counted = await asyncio.to_thread(numbers)
    return {
        "model_stats": [
            _statistics(model, counted.get((model.name, model.version), ModelTotals()))
            for model in models
        ]
    }


def _models(registry: Registry, name: str, version: str) -> list[Model]:
    if not name:
        return list(registry)
    if version:
        return [registry.get(name, version)]
    registry.get(name)
    return list(registry.models[name].ready.values())


def repository_index(registry: Registry, *, ready_only: bool = False) -> list[Document]:
    return [
        {"name": name, "version": version, "state": state.state, "reason": reason}
        for name, versions in registry.index().items()
        for version, state in versions.items()
        if state.state == "READY" or not ready_only
        for reason in [_reason(registry, name, version)]
    ]


def _reason(registry: Registry, name: str, version: str) -> str:
    """Return the reason why a version does not answer, or the note on one that answers."""
    versions = registry.models[name]
    model = versions.ready.get(version)
    batching = model.batching_note if model is not None else ""
    return "; ".join(filter(None, [versions.states[version].reason or batching, versions.note]))


def _tensor(port: Port) -> Document:
    return {"name": port.name, "datatype": port.datatype, "shape": list(port.shape)}


def _configured(port: Port, *, batched: bool) -> Document:
    """Return a port as Triton describes it: the shape leaves out the axis of the batch."""
    kind = "STRING" if port.datatype == BYTES else port.datatype
    dims = port.shape[1:] if batched else port.shape
    return {"name": port.name, "data_type": f"TYPE_{kind}", "dims": list(dims)}


def _kind(model: Model) -> str:
    return "KIND_CPU" if model.provider.startswith("CPU") else "KIND_GPU"


def _statistics(model: Model, of: ModelTotals) -> Document:
    parts = {name: _duration(*of[name]) for name in ("queue", "decode", "compute", "encode")}
    none = _duration(0, 0.0)
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": int(of["last"][1] * 1e3),
        "inference_count": int(of["rows"][1]) or of["ok"][0],
        "execution_count": of["compute"][0],
        "inference_stats": {
            "success": _duration(*of["ok"]),
            "fail": _duration(*of["failed"]),
            "queue": parts["queue"],
            "compute_input": parts["decode"],
            "compute_infer": parts["compute"],
            "compute_output": parts["encode"],
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> Document:
    return {"count": count, "ns": round(seconds * NANOSECONDS)}
