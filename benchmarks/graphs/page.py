"""Measured part of docs/graphs.md."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from benchmarks.kernels.runtime import instructions
from benchmarks.timing import machine
from gatewave.export.markdown import page

PAGE = Path("docs/graphs.md")


def put(path: Path, text: str, begin: str, end: str) -> None:
    """Replace the text between two marks of the page; missing marks are added at its end."""
    whole = path.read_text(encoding="utf-8") if path.exists() else "# Graphs\n"
    before, mark, rest = whole.partition(begin)
    after = rest.partition(end)[2].lstrip("\n") if mark else ""
    blocks = [before.rstrip(), begin, text.strip(), end, after.rstrip()]
    path.write_text(page(blocks), encoding="utf-8")


def about(library: Path) -> str:
    """Return the date, the machine and the packages, as a sentence."""
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "onnx", "torch"))
    return (
        f"Measured on {today}, on {platform.system()} {platform.machine()} ({machine()}), kernels "
        f"for {instructions(library)}, with {packages}. Load average at the start: "
        f"{os.getloadavg()[0]:.1f}."
    )


def counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) or "none"
