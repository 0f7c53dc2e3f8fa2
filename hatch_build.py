"""The messages of gRPC, generated from `.proto` files whenever the project is built or installed.

They are written beside the `.proto`, where an editable install finds them too; they are neither
committed nor checked.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Messages(BuildHookInterface):
    """Runs `protoc` on every `.proto` of the service."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        root = Path(self.root)
        # None at all where only the dependencies are installed: see deploy/Dockerfile.
        found = [str(path.relative_to(root)) for path in root.glob("service/**/*.proto")]
        if found and protoc.main(["protoc", *_options(root), *found]) != 0:
            msg = f"protoc failed on {', '.join(found)}"
            raise RuntimeError(msg)


def _options(root: Path) -> list[str]:
    known = files("grpc_tools") / "_proto"
    return [
        f"--proto_path={root}",
        f"--proto_path={known}",
        f"--python_out={root}",
        f"--pyi_out={root}",
    ]
