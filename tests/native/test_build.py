"""Build of the kernels: reproducible, incremental, and skipped without a compiler.

The tests of `native/build.py` build a small library in place of the kernels: compiling the kernels
takes half a minute. `make native-builds` builds the kernels themselves, in several folders.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sharing import once

ROOT = Path(__file__).parents[2]
TARGETS = ("avx512", "avx2", "x86_64")
OBJECTS = "gatewave_registration"
"""Target of CMake: all objects of the library but those of the kernels."""

pytestmark = pytest.mark.skipif(
    not (shutil.which("c++") or os.environ.get("CXX")), reason="there is no C++ compiler"
)

CPU_ONLY = {"GATEWAVE_BUILD_CUDA": "0"}
"""Environment without the kernels for GPUs, which test_cuda_build.py builds."""

SMALL = """
cmake_minimum_required(VERSION 3.20)
project(small CXX)
if(GATEWAVE_CUDA)
  message(FATAL_ERROR "no GPU for you")
endif()
add_library(gatewave MODULE first.cpp second.cpp)
"""
BUILT = "Native kernels are built: service/libgatewave.so\n"


def copy(folder):
    """Return a copy of the sources, with its own build folder and library."""
    shutil.copytree(
        ROOT / "native", folder / "native", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "service").mkdir()
    return folder


def run(folder, *arguments, **variables):
    return python(folder, "build.py", *arguments, **variables)


def python(folder, *arguments, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder / "native",
        env=os.environ | CPU_ONLY | variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def build_folder(built):
    return built("gatewave")


@pytest.fixture(scope="session")
def library(build_folder):
    return build_folder / "libgatewave.so"


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Return a copy that was built in a folder with another name."""

    def build(folder):
        done = run(copy(folder), "--required", "--strict")
        assert (done.returncode, done.stdout, done.stderr) == (0, BUILT, "")

    return once(tmp_path_factory, "else where", build)


@pytest.fixture
def sources(tmp_path):
    """Return a copy that contains a library from an earlier build."""
    folder = copy(tmp_path)
    (folder / "service/libgatewave.so").write_bytes(b"old")
    return folder


@pytest.fixture
def small(tmp_path):
    """Return a project that `build.py` builds in a second, in a folder with a space in its name."""
    folder = tmp_path / "small one"
    (folder / "native").mkdir(parents=True)
    (folder / "service").mkdir()
    (folder / "service/libgatewave.so").write_bytes(b"old")
    shutil.copy(ROOT / "native/build.py", folder / "native")
    (folder / "native/CMakeLists.txt").write_text(SMALL)
    for name in ("first", "second"):
        (folder / f"native/{name}.cpp").write_text(f"int {name}() {{ return 0; }}\n")
    return folder


def nm(path, *arguments):
    """Return the letters and names of the symbols that a file defines."""
    command = ["nm", "--defined-only", "--format=posix", *arguments, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [tuple(line.split()[1::-1]) for line in done.stdout.splitlines()]


def compiled(folder):
    """Return the object files of a build folder, and when each was written."""
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*.o")}


def test_objects_of_two_folders_are_the_same_bytes(build_folder, tmp_path):
    """`make native-builds` compares whole libraries."""
    other = copy(tmp_path / "else where")
    script = f"import build, pathlib; build.build({OBJECTS!r}, pathlib.Path('out'), strict=True)"
    done = python(other, "-c", script)
    assert done.returncode == 0, done.stderr
    folder = f"CMakeFiles/{OBJECTS}.dir"
    objects = sorted((build_folder / folder).rglob("*.o"))
    assert len(objects) > 4
    for path in objects:
        again = other / "native/out" / path.relative_to(build_folder)
        assert again.read_bytes() == path.read_bytes(), path.name


@pytest.mark.builds
def test_two_builds_in_two_folders_are_the_same_bytes(library, elsewhere, tmp_path):
    content = library.read_bytes()
    assert (elsewhere / "service/libgatewave.so").read_bytes() == content
    # Warnings are no errors here, which must not change the code.
    other = copy(tmp_path)
    assert run(other, "--required").returncode == 0
    assert (other / "service/libgatewave.so").read_bytes() == content


def test_no_path_of_the_machine_is_inside(library):
    content = library.read_bytes()
    known = {str(ROOT), str(Path.home()), sys.prefix}
    assert [path for path in known if f"{path}/".encode() in content] == []
    assert re.findall(rb"[\w/.-]*/native/[\w/.-]*", content) == []


def test_the_entry_point_is_the_only_symbol_that_others_see(library):
    assert nm(library, "--dynamic") == [("T", "RegisterCustomOps")]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there is but one instruction set")
@pytest.mark.parametrize("target", TARGETS)
def test_no_function_of_one_instruction_set_can_stand_in_for_that_of_another(build_folder, target):
    """The linker keeps one of equal weak symbols; its instructions may be unsupported."""
    (made,) = (build_folder / "CMakeFiles" / f"kernels_{target}.dir").rglob("*.o")
    shared = [name for letter, name in nm(made) if letter in "VWuTDBR"]
    own = f"8gatewave{len(target)}{target}"
    assert len(shared) > 10
    assert [name for name in shared if own not in name] == []


@pytest.mark.builds
def test_only_a_changed_source_of_the_library_is_compiled_again(elsewhere):
    folder = elsewhere / "build/gatewave-strict"
    before = compiled(folder)
    os.utime(elsewhere / "native/library/call.cpp")
    assert run(elsewhere, "--strict").returncode == 0
    changed = {path.name for path, made in compiled(folder).items() if made != before[path]}
    assert changed == {"call.cpp.o"}


def test_a_build_replaces_the_library_and_keeps_what_is_unchanged(small):
    done = run(small, "--required", "--strict")
    assert (done.returncode, done.stdout, done.stderr) == (0, BUILT, "")
    assert (small / "service/libgatewave.so").read_bytes() != b"old"

    folder = small / "build/gatewave-strict"
    before = compiled(folder)
    assert run(small, "--strict").returncode == 0
    assert compiled(folder) == before
    os.utime(small / "native/second.cpp")
    assert run(small, "--strict").returncode == 0
    changed = {path.name for path, made in compiled(folder).items() if made != before[path]}
    assert changed == {"second.cpp.o"}


def test_other_flags_compile_everything_again(small):
    assert run(small, "--required").returncode == 0
    folder = small / "build/gatewave"
    before = compiled(folder)
    assert run(small, "--required", CXXFLAGS="-DOTHER").returncode == 0
    after = compiled(folder)
    assert after.keys() == before.keys()
    assert [path for path, made in after.items() if made == before[path]] == []


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PATH": "/nowhere"}, "no C++20 compiler found (c++, g++, clang++)"),
        ({"CXX": "/bin/false"}, "no C++20 compiler found (CXX is /bin/false)"),
    ],
)
@pytest.mark.parametrize(("arguments", "status"), [((), 0), (("--required",), 1)])
def test_where_nothing_is_built_one_line_says_why(
    monkeypatch, small, variables, reason, arguments, status
):
    monkeypatch.delenv("CXX", raising=False)
    done = run(small, *arguments, **variables)
    assert (done.returncode, done.stderr) == (status, "")
    line = f"Native kernels are skipped: {reason}. Function bodies are used instead; "
    assert done.stdout.startswith(line)
    assert done.stdout.count("\n") == 1
    assert not (small / "service/libgatewave.so").exists()


def test_where_none_are_wanted_what_is_there_is_left(small):
    done = run(small, GATEWAVE_BUILD_NATIVE="0")
    assert done.returncode == 0
    assert "GATEWAVE_BUILD_NATIVE is 0" in done.stdout
    assert (small / "service/libgatewave.so").read_bytes() == b"old"


def test_a_failure_of_nvcc_leaves_the_kernels_of_the_processor(small):
    (small / "service/libgatewave_cuda.so").write_bytes(b"old")
    done = run(small, GATEWAVE_BUILD_CUDA="", CUDACXX="nvcc")
    assert done.returncode == 0
    assert "no GPU for you" in done.stdout
    assert done.stdout.endswith(BUILT)
    assert (small / "service/libgatewave.so").read_bytes() != b"old"
    assert not (small / "service/libgatewave_cuda.so").exists()

    # Where kernels are required it is an error, and leaves them as well.
    done = run(small, "--required", GATEWAVE_BUILD_CUDA="", CUDACXX="nvcc")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no GPU for you" in done.stderr
    assert "Function bodies are used on GPUs instead." in done.stderr
    assert (small / "service/libgatewave.so").exists()


def test_what_fails_is_shown_and_no_old_library_is_left(sources):
    with (sources / "native/CMakeLists.txt").open("a") as file:
        file.write('message(FATAL_ERROR "broken on purpose")\n')
    done = run(sources)
    assert (done.returncode, done.stdout) == (1, "")
    assert "broken on purpose" in done.stderr
    assert "Native kernels are not built" in done.stderr
    assert not (sources / "service/libgatewave.so").exists()


@pytest.mark.parametrize(("arguments", "is_error"), [((), "OFF"), (("--strict",), "ON")])
def test_a_warning_is_an_error_to_developers_only(sources, arguments, is_error):
    with (sources / "native/CMakeLists.txt").open("a") as file:
        file.write('message(FATAL_ERROR "warnings: ${GATEWAVE_WERROR}")\n')
    assert f"warnings: {is_error}" in run(sources, *arguments).stderr
