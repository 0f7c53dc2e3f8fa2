"""Repository models that an application in this process serves without a trial."""

import contextlib

from onnx_models import load, put


@contextlib.contextmanager
def added(runtime, folder, name, made, batching=None):
    """Serve the ONNX model ``made`` in ``runtime`` for a block, with files in ``folder``."""
    loaded = load(put(folder, name, "1", made), runtime.engine, batching)
    runtime.registry.put(loaded)
    try:
        yield loaded
    finally:
        runtime.registry.remove(name, "1")
