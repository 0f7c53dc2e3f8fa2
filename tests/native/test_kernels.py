"""Kernels without ONNX Runtime, run by the program in native/tests."""

import subprocess


def test_the_kernels_keep_what_they_promise(built):
    folder = built("kernel_tests")
    done = subprocess.run(
        [folder / "tests" / "kernel_tests"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " 0 failed" in done.stdout
