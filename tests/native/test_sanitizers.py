"""Kernels and library under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = {
    # Python and ONNX Runtime keep what they have until the process ends; their own exceptions and
    # allocations are not built for a sanitizer.
    "ASAN_OPTIONS": "detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


@pytest.fixture(scope="session")
def sanitized(built):
    """Return the build folder of both; the sanitizers end the process at the first finding."""
    options = ("-DGATEWAVE_TESTS=ON", "-DGATEWAVE_SANITIZE=ON")
    built("sanitized", "gatewave", *options)
    return built("sanitized", "kernel_tests", *options)


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


def test_the_kernels_are_clean(sanitized):
    assert " 0 failed" in run(sanitized / "tests" / "kernel_tests", "--run", "128")


def test_the_library_is_clean_inside_onnx_runtime(sanitized):
    # Python is built without: both must be there before ONNX Runtime's exceptions are.
    preloaded = [
        run("c++", f"-print-file-name={name}").strip() for name in ("libasan.so", "libstdc++.so.6")
    ]
    root = Path(__file__).parents[2]
    said = run(
        sys.executable,
        Path(__file__).with_name("exercise.py"),
        sanitized / "libgatewave.so",
        LD_PRELOAD=" ".join(preloaded),
        PYTHONPATH=os.pathsep.join([str(root / "src"), str(root), str(root / "tests" / "support")]),
        PYTHONMALLOC="malloc",
    )
    assert said.endswith("all ran\n")
