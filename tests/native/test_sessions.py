"""Kernels in sessions: in place, in parallel, over huge tensors, and opened and closed."""

import concurrent.futures
import itertools
import os

import numpy as np
import onnxruntime as ort
import pytest
from native_models import SCALAR, numbers, operator_model, options, run, session
from onnx import TensorProto

from gatewave.export.accuracy.certify import Kernels


@pytest.mark.parametrize("length", [1, 67, 1024, 50_000])
def test_outputs_may_take_the_place_of_inputs(library, kernels, length):
    content = operator_model("GLUValueAndGrad", ["a", "b"], ["y", "da", "db"], shape=["n"])
    made = session(library, content, instructions=kernels.instructions)
    inputs = {"a": numbers(length), "b": numbers(length, seed=1)}
    apart = dict(zip(("y", "da", "db"), made.run(None, inputs), strict=True))
    for first, second in itertools.permutations(apart, 2):
        binding = made.io_binding()
        values = {n: ort.OrtValue.ortvalue_from_numpy(v.copy()) for n, v in inputs.items()}
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        over = {first: values["a"], second: values["b"]}
        for name in apart:
            if name in over:
                binding.bind_ortvalue_output(name, over[name])
            else:
                binding.bind_output(name)
        made.run_with_iobinding(binding)
        for name, value in over.items():
            assert np.array_equal(value.numpy(), apart[name]), (name, first, second)


def test_runs_at_once_give_what_they_give_alone(library, description):
    content = operator_model("SwiGLUSigmoidValueAndGrad", ["a", "b"], ["y", "da", "db"], ["n"])
    inputs = {"a": 30 * numbers(70_001), "b": 30 * numbers(70_001, seed=1)}
    kinds = list(itertools.product(description["supported"], (1, 4)))
    sessions = {
        kind: session(library, content, instructions=kind[0], threads=kind[1]) for kind in kinds
    }
    alone = {kind: run(library, content, inputs, instructions=kind[0]) for kind in kinds}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [(kind, pool.submit(sessions[kind].run, None, inputs)) for kind in kinds * 10]
        for kind, call in calls:
            for result, want in zip(call.result(), alone[kind], strict=True):
                assert np.array_equal(result, want)


GLOBAL_POOL = """
import sys
import numpy as np
import onnxruntime as ort
ort.set_global_thread_pool_sizes(4, 1)
library, path, folder = sys.argv[1:]
options = ort.SessionOptions()
options.use_per_session_threads = False
options.register_custom_ops_library(library)
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
x = np.load(folder + "/x.npy")
for _ in range(5):
    np.save(folder + "/y.npy", session.run(None, {"x": x})[0])
"""


def test_the_global_thread_pool_gives_the_same(library, tmp_path, subprocess_python):
    if not hasattr(ort, "set_global_thread_pool_sizes"):
        pytest.skip("this ONNX Runtime cannot set up its global thread pool from Python")
    content = operator_model("Sinc", ["x"], ["y"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    np.save(tmp_path / "x.npy", numbers(300_000))
    subprocess_python(GLOBAL_POOL, library, tmp_path / "model.onnx", tmp_path)
    (want,) = run(library, content, {"x": numbers(300_000)})
    assert np.array_equal(np.load(tmp_path / "y.npy"), want)


HUGE = {
    # More than 2^31 bytes; and more than 2^31 elements.
    "float32": (TensorProto.FLOAT, np.float32, np.uint32, 2**29 + 1000, 8),
    "float16": (TensorProto.FLOAT16, np.float16, np.uint16, 2**31 + 1000, 14),
}


@pytest.mark.parametrize(("kind", "threads"), [("float32", 1), ("float16", 2)])
def test_huge_tensors_are_right_to_their_end(library, kind, threads):
    onnx_type, dtype, pattern, length, gibibytes = HUGE[kind]
    if available() < gibibytes * 2**30:
        pytest.skip(f"it takes {gibibytes} GiB of free memory")
    content = operator_model("Sinc", ["x"], ["y"], ["n"], onnx_type)
    made = session(library, content, threads=threads, enable_cpu_mem_arena=False)
    x = np.zeros(length, dtype)
    places = [0, length // 2 - 1, length // 2, 2**29 - 1, 2**29, length - 1000, length - 1]
    x[places] = numbers(len(places), dtype=dtype)
    (y,) = made.run(None, {"x": x})
    (want,) = made.run(None, {"x": x[places]})
    assert np.array_equal(y[places], want)
    y[places] = 1
    one = np.ones(1, dtype).view(pattern)
    assert y.view(pattern).min() == y.view(pattern).max() == one


def available():
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_registering_twice_is_refused_by_name_and_harms_no_other_session(library):
    content = operator_model("Sinc", ["x"], ["y"])
    made = options(library)
    before = ort.InferenceSession(content, made, providers=["CPUExecutionProvider"])
    Kernels(library).register(made)
    conflict = r"\bai\.gatewave\b.*Conflicting with a registered kernel"
    with pytest.raises(Exception, match=conflict):
        ort.InferenceSession(content, made, providers=["CPUExecutionProvider"])
    x = numbers(5)
    for opened in (before, session(library, content)):
        assert np.allclose(opened.run(None, {"x": x})[0], np.sinc(x), atol=1e-6)


OPENED_AND_CLOSED = """
import gc, os, pathlib, sys
import numpy as np
import onnxruntime as ort
library, path, count = sys.argv[1:]
inputs = {name: np.ones(3, np.float32) for name in ("x", "g")}
inputs["alpha"] = np.array(1, np.float32)

def open_and_close(times):
    for _ in range(times):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.register_custom_ops_library(library)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
    gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

before = open_and_close(1500)
print((open_and_close(int(count)) - before) / int(count))
"""


def test_many_sessions_leave_nothing_behind(library, tmp_path, subprocess_python):
    content = operator_model("SwishVJP", ["x", "g", SCALAR], ["dx"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    # In a process of its own: here the heap has holes from elsewhere.
    grown = subprocess_python(OPENED_AND_CLOSED, library, tmp_path / "model.onnx", 3000)
    assert float(grown) < 1024  # bytes a session


LET_GO_OF = """
import gc, os, pathlib, sys
import numpy as np
import onnxruntime as ort
library, path, count = sys.argv[1:]
inputs = {name: np.ones(3, np.float32) for name in ("x", "g")}
inputs["alpha"] = np.array(1, np.float32)

def cycles(times):
    for _ in range(times):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.register_custom_ops_library(library)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, inputs)
        # Nothing holds the library now: the system may take it out of memory.
        del session, options
        gc.collect()
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

before = cycles(20)
print(cycles(int(count)) - before)
"""


def test_a_library_that_no_session_holds_is_not_made_anew(library, tmp_path, subprocess_python):
    content = operator_model("SwishVJP", ["x", "g", SCALAR], ["dx"], ["n"])
    (tmp_path / "model.onnx").write_bytes(content)
    grown = subprocess_python(LET_GO_OF, library, tmp_path / "model.onnx", 300)
    assert float(grown) < 2 << 20
