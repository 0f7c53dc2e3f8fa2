"""ncnn on CPU in float32, for a model that pnnx has converted.

pnnx writes its results beside its input, which is therefore a copy. External data is not copied.
Shapes must be fixed: pnnx takes an open axis to be 1.

ncnn has tensors of one to four axes. It refuses scalar inputs, and returns a scalar as one element
on one axis. A model cannot name an element type other than float32. float16 and bfloat16 are ways
to store float32 with fewer bits; they are turned off.
"""

import os
import re
import shutil
import subprocess
import tempfile
from importlib import metadata, util
from pathlib import Path

import ncnn
import numpy as np

PNNX = Path(util.find_spec("pnnx").origin).with_name("pnnx")
BATCH_AXIS = re.compile(r"((?:in|out)\d+)\.numpy\((?:\), )?batch_index=(\d+)\)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
PASS = re.compile(r"^#{4,}.*$", re.MULTILINE)
NARROW = ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage")


def versions():
    return {package: metadata.version(package) for package in ("ncnn", "pnnx")}


def load(path, inputs, outputs):
    with tempfile.TemporaryDirectory() as folder:
        batch_axes = _converted(path, Path(folder))
        net = _loaded(Path(folder))

    def run(arrays):
        extractor = net.create_extractor()
        for index, name in enumerate(inputs):
            blob = f"in{index}"
            if extractor.input(blob, _mat(name, arrays[name], batch_axes[blob])):
                raise RuntimeError(f"ncnn takes no {name}")
        results = {}
        for index, name in enumerate(outputs):
            blob = f"out{index}"
            results[name] = _extracted(extractor, name, blob, batch_axes[blob])
        return results

    return run


def _converted(path, folder):
    """Convert the model into ``folder``, and return the batch axis of each of pnnx's ports."""
    shutil.copyfile(path, folder / "model.onnx")
    done = subprocess.run(  # noqa: S603 - a tool of the environment
        [PNNX, "model.onnx", "fp16=0"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode or not (folder / "model.ncnn.param").exists():
        raise RuntimeError(f"pnnx ends with {done.returncode}: {_said(done.stdout)}")
    ways = (folder / "model_ncnn.py").read_text(encoding="utf-8")
    return {blob: int(axis) for blob, axis in BATCH_AXIS.findall(ways)}


def _said(output):
    """Return the output of pnnx's last pass, which begins with a line of number signs."""
    return PASS.split(COLOUR.sub("", output).strip())[-1].strip() or "it prints no reason"


def _loaded(folder):
    net = ncnn.Net()
    net.opt.num_threads = 1  # idle threads would spin while other runtimes run
    for way in NARROW:
        setattr(net.opt, f"use_{way}", False)
    with tempfile.TemporaryFile() as said:
        errors = os.dup(2)
        os.dup2(said.fileno(), 2)  # ncnn prints its reasons, and returns only a status
        try:
            failed = net.load_param(str(folder / "model.ncnn.param")) or net.load_model(
                str(folder / "model.ncnn.bin")
            )
        finally:
            os.dup2(errors, 2)
            os.close(errors)
        if failed:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace").strip() or f"status {failed}")
    return net


def _mat(name, array, batch_axis):
    if array.dtype != np.float32:  # ncnn would read other bits as float32, past the end
        raise TypeError(f"ncnn computes in float32; {name} is of {array.dtype}")
    return ncnn.Mat(array, batch_index=batch_axis).clone()


def _extracted(extractor, name, blob, batch_axis):
    failed, mat = extractor.extract(blob)
    if failed:
        raise RuntimeError(f"ncnn extracts no {name}: status {failed}")
    return mat.numpy(batch_index=batch_axis).copy()
