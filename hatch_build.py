"""Build hook of Hatchling: generates the gRPC messages and builds the native kernels.

The messages are generated from `.proto` files, the kernels compiled by `native/build.py`. Both are
written into the package, where an editable install finds them too; they are neither committed nor
checked.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Generated(BuildHookInterface):
    """Build hook: runs `protoc` on every `.proto` of the service, and the C++ compiler if found."""

    def dependencies(self) -> list[str]:
        """Return the build tools that PyPI provides if the machine has none."""
        native = _native(Path(self.root))
        if self.target_name != "wheel" or native is None or not native.is_wanted():
            return []
        try:
            native.find_compiler()
        except native.Skipped:
            return []
        makers = ["make", "ninja"]
        lacking = [] if shutil.which("cmake") else ["cmake"]
        return lacking if any(map(shutil.which, makers)) else [*lacking, "ninja"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        # No files if only the dependencies are installed, as in deploy/Dockerfile.
        # A source distribution has files where a checkout has links to the folders at the top.
        base = root if (root / "service").is_dir() else root / "src" / "gatewave"
        found = [str(path.relative_to(base)) for path in base.glob("service/**/*.proto")]
        if found and protoc.main(["protoc", *_options(base), *found]) != 0:
            msg = f"protoc failed on {', '.join(found)}"
            raise RuntimeError(msg)
        native = _native(root)
        if self.target_name == "wheel" and native is not None:
            self._compile(native, build_data)

    def _compile(self, native: ModuleType, build_data: dict[str, Any]) -> None:
        """Put the kernels into the wheel. Without them, the artifacts' function bodies are used."""
        try:
            libraries = native.build_into_package(complain=self.app.display_warning)
        except (native.Skipped, native.BuildError) as reason:
            self.app.display_warning(str(reason))
            return
        build_data["artifacts"] += [
            f"/src/gatewave/service/{library.name}" for library in libraries
        ]
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def _native(root: Path) -> ModuleType | None:
    """Return the module `native/build.py`, or None if it is missing, as in deploy/Dockerfile."""
    path = root / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("native_build", path)
    if spec is None or spec.loader is None or not path.exists():
        return None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses need their module there
    spec.loader.exec_module(module)
    return module


def _options(root: Path) -> list[str]:
    known = files("grpc_tools") / "_proto"
    return [
        f"--proto_path={root}",
        f"--proto_path={known}",
        f"--python_out={root}",
        f"--pyi_out={root}",
    ]
