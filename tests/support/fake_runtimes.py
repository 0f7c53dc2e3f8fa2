"""Pythons with an ONNX Runtime that is a few lines: it loads every model, refuses, or crashes."""

import os
import sys

from gatewave.certificates.runtimes import catalogue, environments

MODULE = """
import os
import types

__version__ = {version!r}
set_default_logger_severity = lambda level: None
get_available_providers = lambda: ["CPUExecutionProvider"]
get_build_info = lambda: "none"
SessionOptions = types.SimpleNamespace


class InferenceSession:
    def __init__(self, model, options, providers):
        self.model = model
        {load}

    def get_inputs(self):
        return [types.SimpleNamespace(name="x", type="tensor(float)")]

    def run(self, names, feeds):
        {run}
"""


def python(folder, *, load="pass", run="raise RuntimeError('it does not run')", version="0"):
    """Write a Python to ``folder`` whose ONNX Runtime runs ``load`` and ``run``."""
    modules = folder / "modules"
    modules.mkdir(parents=True)
    (modules / "onnxruntime.py").write_text(MODULE.format(load=load, run=run, version=version))
    path = os.pathsep.join([str(modules), *filter(None, sys.path)])
    script = folder / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return script


def mark_installed(home, name):
    """Mark the folder ``home`` as the environment that the list of the runtime ``name`` makes."""
    listed = environments.REQUIREMENTS / catalogue.find(name).requirements
    (home / environments.MADE).write_text(listed.read_text())
