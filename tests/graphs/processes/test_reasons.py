"""Reasons in errors: complete, and without known noise."""

import sys

import pytest

from gatewave.certificates.document import Baseline, Cell, Certificate, Row
from gatewave.certificates.report import pages
from gatewave.graphs.processes.errors import Lost
from gatewave.graphs.processes.reasons import last_words, reason_of
from gatewave.graphs.processes.subprocesses import Process

OPENVINO = """RuntimeError: Exception from src/inference/src/cpp/core.cpp:84:
Exception from src/inference/src/dev/plugin.cpp:58:
Check 'element::f32 == type' failed at src/frontends/onnx/frontend/src/frontend.cpp:399:
FrontEnd API failed with OpConversionFailure:
Errors during ONNX translation:
No conversion for operation type: 'org.example.Foo'

"""
ENFORCED = (
    "RuntimeException: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned "
    "while running Reshape node. Name:'r' Status Message: "
    "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:47 "
    "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, "
    "std::function<void(int)>, bool) input_shape_size == size was false. "
    "Input shape:{3}, requested shape:{2,2}"
)
RUST = """loading

thread 'main' panicked at nnef/src/ops.rs:12:5:
Squeeze of unknown rank
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""


OPENVINO_REASON = (
    "RuntimeError: Check 'element::f32 == type' failed: FrontEnd API failed with "
    "OpConversionFailure: Errors during ONNX translation: "
    "No conversion for operation type: 'org.example.Foo'"
)
ENFORCED_REASON = (
    "RuntimeException: [ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned "
    "while running Reshape node. Name:'r' Status Message: "
    "input_shape_size == size was false. Input shape:{3}, requested shape:{2,2}"
)
PYTHON = 'E: Traceback (most recent call last):\n  File "x.py", line 3\n    f()\nValueError: a\nb'
ANYHOW = 'Translating node "y"\n\nCaused by:\n    0: in rules\n    1: axes of rank 3'
CPP = "terminate called after throwing an instance of 'std::e'\n  what():  why\nmore"
ASSERTED = "/project/onnx/BaseConverter.h:66: lookup: Assertion `false` failed: No Adapter"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OPENVINO, OPENVINO_REASON),
        (ENFORCED, ENFORCED_REASON),
        ("Fail: failed:/src/a/model.cc:181 ns::M::M(int) IR 99", "Fail: failed: IR 99"),
        ("a.cc:12 some reason (with parens) and more", "some reason (with parens) and more"),
        (ASSERTED, "No Adapter"),
        ("\x1b[1;31mError: red\x1b[0m\n    at run (session.mjs:1:2)", "Error: red"),
        (ANYHOW, 'Translating node "y" Caused by: 0: in rules 1: axes of rank 3'),
        (PYTHON, "E: ValueError: a b"),
        ("src/core.cpp:84:", "src/core.cpp:84:"),
        ("word " * 2000, " ".join(["word"] * 2000)),
        ("", "no reason is given"),
    ],
)
def test_noise_is_removed_and_the_reason_is_not(error, reason):
    assert reason_of(error) == reason


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (RUST, "thread 'main' panicked: Squeeze of unknown rank"),
        (CPP, "terminate called after throwing an instance of 'std::e' what(): why more"),
        ("a log\n\nmalloc(): corrupted top size\n", "malloc(): corrupted top size"),
        ("\n", ""),
    ],
)
def test_last_words_hold_the_reason(output, words):
    assert last_words(output) == words


def asked(process):
    """Send a request; the process ends without an answer."""
    with process.answering(60):
        process.requests.write(b"\n")
        process.requests.flush()
        if not process.responses.read(1):
            raise EOFError


def test_a_process_that_ends_gives_all_lines_of_its_exception():
    program = "import sys; sys.stdin.readline(); raise ValueError('first line\\nsecond line')"
    process = Process([sys.executable, "-c", program], {})
    with pytest.raises(Lost, match=r"exit status 1: ValueError: first line second line$"):
        asked(process)
    process.close()


def test_every_form_of_a_certificate_holds_whole_reasons():
    why = [f"{place}\n" + "a word of the reason " * 100 + f"end of {place}" for place in "abc"]
    cell = Cell(subject="y", graph="", dtype="", form="", elements=1, verdict="refused", why=why[0])
    rows = (
        Row(runtime="tract", title="tract", cells=(cell,)),
        Row(runtime="tvm", title="TVM", cells=(), why=why[1]),
    )
    certificate = Certificate(
        name="m", kind="model", models={}, truth="", made="", machine="", seed=0,
        baseline=Baseline(level="agreed"), rows=rows, left_out={"z": why[2]},
    )  # fmt: skip
    for text in (pages.markdown(certificate), pages.html(certificate)):
        for reason in why:
            assert " ".join(reason.split()) in text
    again = Certificate.model_validate_json(certificate.to_json())
    assert [again.rows[0].cells[0].why, again.rows[1].why, again.left_out["z"]] == why
