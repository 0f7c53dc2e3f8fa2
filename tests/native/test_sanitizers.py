"""Kernels and library under AddressSanitizer and UndefinedBehaviorSanitizer.

Compiling for the sanitizers takes two minutes, which only `make native-sanitize` spends. For
`make test` the same program runs with the installed library, and test_kernels.py checks the bytes
beside all outputs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

OPTIONS = {
    # Python and ONNX Runtime keep what they have until the process ends; their own exceptions and
    # allocations are not built for a sanitizer.
    "ASAN_OPTIONS": "detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@pytest.fixture(scope="module")
def sanitized():
    """Return the build folder of both; the sanitizers end the process at the first finding."""
    folder = ROOT / "build/sanitized"
    options = ("-DGATEWAVE_TESTS=ON", "-DGATEWAVE_SANITIZE=ON", "-DGATEWAVE_CUDA=OFF")
    subprocess.run(["cmake", "-S", ROOT / "native", "-B", folder, *options], check=True)
    for target in ("gatewave", "kernel_tests"):
        subprocess.run(["cmake", "--build", folder, "--target", target, "--parallel"], check=True)
    return folder


def run(*command, **variables):
    done = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={**os.environ, **OPTIONS, **variables},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def exercise(library, **variables):
    paths = [ROOT / "src", ROOT, ROOT / "tests" / "support"]
    program = Path(__file__).with_name("exercise.py")
    variables["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    return run(sys.executable, program, library, **variables)


def test_operators_refusals_and_threads_end_well(library):
    assert exercise(library).endswith("all ran\n")


@pytest.mark.builds
def test_the_kernels_are_clean(sanitized):
    assert " 0 failed" in run(sanitized / "tests" / "kernel_tests", "--run", "128")


@pytest.mark.builds
def test_the_library_is_clean_inside_onnx_runtime(sanitized):
    # Python is built without: both must be there before ONNX Runtime's exceptions are.
    preloaded = [
        run("c++", f"-print-file-name={name}").strip() for name in ("libasan.so", "libstdc++.so.6")
    ]
    library = sanitized / "libgatewave.so"
    said = exercise(library, LD_PRELOAD=" ".join(preloaded), PYTHONMALLOC="malloc")
    assert said.endswith("all ran\n")
