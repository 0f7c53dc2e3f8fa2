"""Kernels for GPUs, tested without a GPU.

The tests check the output of nvcc, and the results of the threads in an emulation on the host.
Both compile for a minute, so `make native-builds` runs them, and `make test` only configures CMake.
"""

import json
import re
import shlex
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from native import build
from onnx import TensorProto, helper

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "native"
NEEDED = ("nvcc", "cmake", "ninja", "nm")
MISSING = [tool for tool in NEEDED if shutil.which(tool) is None]

FATBIN = b"\x50\xed\x55\xba"
"""First bytes of device code in a library."""
KINDS = {1: "compute", 2: "sm"}
DIFFERENCES_NOT_JUDGED = 77


def ran(*command):
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder():
    """Return the folder in which `make native` builds the library, where there is an nvcc."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    made = ROOT / "build" / "gatewave_cuda-strict"
    build.build(build.CUDA, made, strict=True)
    ran("cmake", "-S", str(NATIVE), "-B", str(made), "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    return made


@pytest.fixture(scope="module")
def library(folder):
    return folder / "libgatewave_cuda.so"


@pytest.fixture(scope="module")
def assembly(folder):
    """Return the PTX of all kernels, compiled with the flags of the library."""
    commands = json.loads((folder / "compile_commands.json").read_text())
    (command,) = [c["command"] for c in commands if c["file"].endswith("kernels.cu")]
    kept = []
    skipped = iter(shlex.split(command))
    for word in skipped:
        if word in {"-o", "-MT", "-MF"}:
            next(skipped)
        elif word not in {"-c", "-MD"} and not word.startswith("--generate-code"):
            kept.append(word)
    ran(*kept, "-arch=compute_90", "-ptx", "-o", str(folder / "kernels.ptx"))
    return (folder / "kernels.ptx").read_text()


def architectures(library):
    content = library.read_bytes()
    for at in (match.start() for match in re.finditer(re.escape(FATBIN), content)):
        _, _, header, size = struct.unpack_from("<IHHQ", content, at)
        entry, end = at + header, at + header + size
        while entry < end:
            kind, _, header, size = struct.unpack_from("<HHIQ", content, entry)
            (number,) = struct.unpack_from("<I", content, entry + 28)
            yield f"{KINDS[kind]}_{number}"
            entry += header + size


def session(library, op_type, instructions=""):
    made = [helper.make_tensor_value_info("y", TensorProto.UINT8, [None])]
    given = []
    if op_type != "Kernels":
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])]
        made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])]
    names = [value.name for value in given]
    node = helper.make_node(op_type, names, ["y"], domain="ai.gatewave")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.gatewave", 1)]
    graph = helper.make_graph([node], "graph", given, made)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if instructions:
        options.add_session_config_entry("ai.gatewave.instructions", instructions)
    options.register_custom_ops_library(str(library))
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def described(library):
    (text,) = session(library, "Kernels").run(None, {})
    return json.loads(np.asarray(text).tobytes())


@pytest.mark.builds
def test_it_has_machine_code_for_two_generations_and_ptx_for_later_ones(library):
    assert set(architectures(library)) == {"sm_80", "sm_90", "compute_90"}


@pytest.mark.builds
def test_it_shows_nothing_but_its_entry_point(library):
    shown = ran("nm", "--dynamic", "--defined-only", "--format=just-symbols", str(library))
    assert shown.split() == ["RegisterCustomOps"]


@pytest.mark.builds
def test_no_path_of_the_machine_that_built_it_is_inside(library, folder):
    content = library.read_bytes()
    assert str(NATIVE).encode() not in content
    assert str(folder).encode() not in content


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_spaces_in_a_path_and_an_nvcc_that_comes_later_are_no_hindrance(tmp_path, monkeypatch):
    sources, made = tmp_path / "with spaces", tmp_path / "made"
    shutil.copytree(NATIVE, sources)
    options = ("-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    with monkeypatch.context() as without:
        without.setenv("CUDACXX", "/nowhere/nvcc")
        assert "No nvcc found" in ran("cmake", "-S", str(sources), "-B", str(made), *options)
    ran("cmake", "-S", str(sources), "-B", str(made), *options)
    commands = json.loads((made / "compile_commands.json").read_text())
    (command,) = [c["command"] for c in commands if c["file"].endswith("kernels.cu")]
    (host,) = [word for word in shlex.split(command) if "-Wconversion" in word]
    assert f"-ffile-prefix-map={sources}=native" in shlex.split(host.replace(",", " "))


@pytest.mark.builds
def test_it_says_what_it_is_without_a_gpu(library):
    description = described(library)
    assert description["instructions"] == "cuda"
    assert description["supported"] == ["cuda"]
    assert set(description["architectures"]) == set(architectures(library))
    assert {"Sinc", "SwiGLULinear"} <= set(description["kernels"])


@pytest.mark.builds
def test_its_one_instruction_set_can_be_named_and_no_other(library):
    session(library, "Kernels", "cuda")
    with pytest.raises(Exception, match="must be cuda, not 'sm_80'"):
        session(library, "Kernels", "sm_80")


@pytest.mark.builds
def test_a_session_on_the_cpu_refuses_its_operators_by_name(library):
    with pytest.raises(Exception, match="Could not find an implementation for Sinc"):
        session(library, "Sinc")


@pytest.mark.builds
def test_the_device_rounds_each_operation_by_itself_and_keeps_subnormal_numbers(assembly):
    arithmetic = re.findall(r"\b(?:add|sub|mul|fma|mad|div|rcp)\.\S*f(?:32|64)\b", assembly)
    assert {name.split(".")[1] for name in arithmetic} == {"rn"}
    assert not re.search(r"\.ftz|\.approx|\bmad\.\S*f\d\d", assembly)


@pytest.mark.builds
def test_the_device_reads_no_table_of_coefficients(assembly):
    # One that is not folded into the instructions would be read for every element.
    tables = re.findall(r"^\.global .* (\S+)\[\d+\] = ", assembly, re.MULTILINE)
    assert tables
    assert all(assembly.count(name) == 1 for name in tables)


@pytest.mark.builds
def test_every_kernel_moves_whole_packs(assembly):
    bodies = assembly.split(".entry ")[1:]
    assert bodies
    assert all(re.search(r"ld\.global\.v[24]\.", body) for body in bodies)
    assert all(re.search(r"st\.global\.v[24]\.", body) for body in bodies)


@pytest.mark.builds
def test_its_threads_played_by_the_host_compute_what_the_cpu_kernels_compute(built):
    # No nvcc is needed for them.
    program = built("cuda_on_host") / "cuda_on_host"
    done = subprocess.run([program], check=False, text=True, stdout=subprocess.PIPE)
    if done.returncode == DIFFERENCES_NOT_JUDGED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
