"""Runs a runtime's adapter, in that runtime's environment, for whoever writes to its input.

Started as ``python host.py ADAPTER``. It imports nothing of ours but `channel`, by its path: the
environment has a runtime, NumPy and ml_dtypes, and not this package. Adapters without a list of
their own run in ours, and may import it.

The first message is answered with versions. A message with a ``path`` loads a model, in the place
of an earlier one; one without brings inputs, and is answered with outputs. What goes wrong is
answered in the runtime's own words.

An adapter is a module with two functions: ``versions()``, by package, and
``load(path, inputs, outputs)``, which gives a function from arrays by name to arrays by name.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
CHANNEL = HERE.parents[2] / "graphs" / "processes" / "channel.py"


def main() -> None:
    channel = _module("gatewave_channel", CHANNEL)
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _limit_memory()
    adapter = run = None
    wrapped = False
    while True:
        try:
            message, values = channel.receive(requests)
        except EOFError:
            return
        about, results = {}, {}
        try:
            if adapter is None:
                adapter = _module("gatewave_adapter", HERE / sys.argv[1])
                about = {"versions": adapter.versions()}
            elif "path" in message:
                run = adapter.load(message["path"], message["inputs"], message["outputs"])
                wrapped = message["wrapped"]
            else:
                results = run(values) if wrapped else _tensors(run(values))
        except Exception as error:  # noqa: BLE001 - a runtime fails as it likes
            channel.send(answers, {"error": f"{type(error).__name__}: {error}"}, {})
        else:
            channel.send(answers, {"ok": True, **about}, results)


def _tensors(results: dict) -> dict:
    """``results``, if all of them are arrays."""
    for name, value in results.items():
        if not hasattr(value, "dtype"):
            raise TypeError(f"output {name} is {type(value).__name__}, and no tensor")
    return results


def _module(name: str, path: Path) -> ModuleType:
    """The module in ``path``; its folder stays out of the way of imports by others."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _limit_memory() -> None:
    """Limit memory to that of the machine: allocations fail before the system ends processes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


if __name__ == "__main__":
    main()
