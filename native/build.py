"""Build the native kernels, and install `libgatewave.so` in the package `service`.

If nvcc is available, `libgatewave_cuda.so` is built too: the same kernels for GPUs.

Only changed sources are compiled again. Without a C++20 compiler or CMake, the build is skipped,
and the service uses the function bodies of the artifacts instead. `--required` turns a skipped
build into a failure.

    python native/build.py
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
ROOT = NATIVE.parent
_CHECKOUT, _SDIST = ROOT / "service", ROOT / "src" / "gatewave" / "service"
PACKAGE = _CHECKOUT if _CHECKOUT.is_dir() else _SDIST
"""Folder of the service. A source distribution has files where a checkout has links."""
CPU, CUDA = "gatewave", "gatewave_cuda"
"""Targets of CMake; the second one is built only if nvcc is available."""

SWITCH = "GATEWAVE_BUILD_NATIVE"
"""Environment variable; 0 disables the native kernels."""
CUDA_SWITCH = "GATEWAVE_BUILD_CUDA"
"""Environment variable; 0 disables the kernels for GPUs."""

INSTALL = "install one and run `make native`"
FLAGS = ("CXXFLAGS", "LDFLAGS")
CUDA_FLAGS = ("CUDACXX", "CUDAFLAGS", "CUDAHOSTCXX")
COMPILERS = ("c++", "g++", "clang++")
STATIC = ["-static-libstdc++", "-static-libgcc"]
"""Options of the library's linker too: its process may have loaded another C++ runtime."""
# C++20 features and the processor check that the kernels use. GCC 12 and clang 19 have them,
# clang 14 does not.
PROBE = """\
#include <concepts>
#include <span>
#include <string>
std::string first(std::span<const std::string> words) { return words.front(); }
template <std::integral T> T twice(T x) { return x + x; }
template int twice(int);
#ifdef __x86_64__
bool is_new() { return __builtin_cpu_supports("x86-64-v4"); }
#endif
"""


class Skipped(Exception):  # noqa: N818 - a skipped build is no error
    """The kernels cannot be built here, or the environment disables them."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(
            f"Native kernels are skipped: {reason}. Function bodies are used instead; {remedy}."
        )


class BuildError(Exception):
    """Failed compilation of the kernels."""

    def __init__(self, target: str, output: str) -> None:
        """Store the ``output`` of CMake and the compiler, and add a note about the fallback."""
        where = " on GPUs" if target == CUDA else ""
        super().__init__(
            f"{output}\nNative kernels are not built: see above. Function bodies are used{where} "
            "instead."
        )


@dataclass(frozen=True, slots=True)
class Tools:
    """Tools that build the kernels.

    Attributes:
        compiler: Command, in the syntax of CXX.
        cmake: Path of CMake.
        ninja: Path of Ninja; None selects make.
    """

    compiler: str
    cmake: str
    ninja: str | None

    def key(self, target: str) -> str:
        """Return the state that must not change within a build folder, because CMake caches it."""
        version = _run([*shlex.split(self.compiler), "--version"]).stdout.partition("\n")[0]
        known = [str(NATIVE), self.compiler, version, str(bool(self.ninja))]
        known += [os.environ.get(name, "") for name in FLAGS]
        if target == CUDA:
            known += [shutil.which("nvcc") or ""]
            known += [os.environ.get(name, "") for name in CUDA_FLAGS]
        return "\n".join(known)


def is_wanted() -> bool:
    """Return True unless the environment disables the native kernels."""
    return os.environ.get(SWITCH) != "0"


def find_tools() -> Tools:
    """Return the tools of this machine.

    Raises:
        Skipped: No compiler or no CMake is found.
    """
    compiler = find_compiler()
    cmake = _program("cmake", "CMAKE_BIN_DIR")
    if cmake is None:
        raise Skipped("no cmake found", INSTALL)
    return Tools(compiler, cmake, _program("ninja", "BIN_DIR"))


def find_compiler() -> str:
    """Return a compiler for C++20 shared libraries: CXX if it is set, or the first that works.

    Raises:
        Skipped: No compiler is found.
    """
    if sys.platform != "linux":
        raise Skipped(f"they need Linux, this is {sys.platform}", "nothing is lost but speed")
    wanted = os.environ.get("CXX")
    for compiler in (wanted,) if wanted else COMPILERS:
        command = shlex.split(compiler)
        if shutil.which(command[0]) and _compiles(command):
            return compiler
    tried = f"CXX is {wanted}" if wanted else ", ".join(COMPILERS)
    raise Skipped(f"no C++20 compiler found ({tried})", INSTALL)


def _compiles(command: list[str]) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROBE, encoding="utf-8")
        flags = ["-std=c++20", "-shared", "-fPIC", *STATIC, "-o", str(source.with_suffix(".so"))]
        return _run([*command, *flags, str(source)]).returncode == 0


def _program(name: str, folder: str) -> str | None:
    """Find a program on the PATH, or at the attribute ``folder`` of its PyPI package."""
    found = shutil.which(name)
    if found is None and importlib.util.find_spec(name):
        found = shutil.which(name, path=getattr(importlib.import_module(name), folder, ""))
    return found


def build(target: str, folder: Path, *, strict: bool = False) -> Path:
    """Build one of the libraries in ``folder``.

    Args:
        target: ``CPU`` or ``CUDA``.
        folder: Build folder; if it is kept, the next build is faster.
        strict: Treat warnings of the compiler as errors.

    Raises:
        Skipped: It cannot be built here.
        BuildError: The compilation failed.
    """
    tools = find_tools()
    _prepare(folder, tools.key(target))
    configure = ["-S", str(NATIVE), "-B", str(folder)]
    configure += [f"-DGATEWAVE_CUDA={'ON' if target == CUDA else 'OFF'}"]
    configure += [f"-DGATEWAVE_WERROR={'ON' if strict else 'OFF'}"]
    if tools.ninja:
        # CMake caches the path of Ninja, and an earlier one may come from pip and be gone.
        configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
    else:
        configure += ["-G", "Unix Makefiles"]
    parallel = str(len(os.sched_getaffinity(0)))
    make = ["--build", str(folder), "--target", target, "--parallel", parallel]
    for arguments in (configure, make):
        done = _run([tools.cmake, *arguments], CXX=tools.compiler)
        if done.returncode != 0:
            raise BuildError(target, done.stdout)
    return folder / f"lib{target}.so"


def _prepare(folder: Path, key: str) -> None:
    known = folder / "tools.txt"
    if folder.exists() and (not known.exists() or known.read_text(encoding="utf-8") != key):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    known.write_text(key, encoding="utf-8")


def _run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def install(library: Path, target: Path) -> None:
    """Replace the installed library atomically: a service that has loaded the old one keeps it."""
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(library, part)
    part.replace(target)


def build_into_package(
    package: Path = PACKAGE,
    *,
    strict: bool = False,
    required: bool = False,
    complain: Callable[[str], object] = print,
) -> list[Path]:
    """Build the kernels, install them in the package, and return the paths of the new libraries.

    Args:
        package: Folder of the service.
        strict: Treat warnings of the compiler as errors, and a failure of nvcc too.
        required: Treat a failure of nvcc as an error.
        complain: Function that receives the message of a failure of nvcc that is not an error.

    Raises:
        Skipped: The kernels cannot be built here, or the environment disables them. Only in the
            second case, earlier libraries are kept.
        BuildError: The compilation failed.
    """
    if not is_wanted():
        raise Skipped(f"{SWITCH} is 0", "unset it and run `make native`")
    made: list[Path] = []
    try:
        made.append(_install(CPU, package, strict=strict))
        if _is_cuda_wanted():
            made.append(_install(CUDA, package, strict=strict))
    except BuildError as failure:
        if strict or required or not made:
            raise
        complain(str(failure))
    finally:
        # A library of an earlier build may be outdated.
        for target in (CPU, CUDA):
            if (library := package / f"lib{target}.so") not in made:
                library.unlink(missing_ok=True)
    return made


def _is_cuda_wanted() -> bool:
    there = shutil.which("nvcc") or os.environ.get("CUDACXX")
    return bool(there) and os.environ.get(CUDA_SWITCH) != "0"


def _install(target: str, package: Path, *, strict: bool) -> Path:
    # A separate folder for each: other options would compile all sources again.
    folder = ROOT / "build" / f"{target}{'-strict' if strict else ''}"
    library = package / f"lib{target}.so"
    install(build(target, folder, strict=strict), library)
    return library


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--required", action="store_true", help="fail if no kernel can be built")
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    given = parser.parse_args()
    try:
        libraries = build_into_package(strict=given.strict, required=given.required)
    except Skipped as reason:
        print(reason)
        raise SystemExit(int(given.required)) from None
    except BuildError as failure:
        print(failure, file=sys.stderr)
        raise SystemExit(1) from None
    names = ", ".join(str(library.relative_to(ROOT)) for library in libraries)
    print(f"Native kernels are built: {names}")


if __name__ == "__main__":
    main()
