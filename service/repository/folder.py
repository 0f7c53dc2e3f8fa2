"""The operator's folder: what lies in it, what of that may be opened, and what has changed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import ModelRefused
from service.repository import config as configs
from service.repository.config import Config
from service.repository.graph import Contents, External, contents

MODEL = "model.onnx"
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
NUMBER = re.compile(r"-?[0-9]{1,64}")

LARGEST_GRAPH = (1 << 31) - 1
"""What Protocol Buffers can be at most."""
LARGEST_DATA = 1 << 40
MOST_FILES = 10_000
LONGEST_LOCATION = 1024

Stamp = tuple[str, int, int, int]
Fingerprint = tuple[Stamp, ...]
"""The path, size, time of change and inode of each file: when they are as they were, all is."""


def is_name(text: str) -> bool:
    """Whether a model may be called that."""
    return bool(NAME.fullmatch(text)) and text not in {".", ".."}


def folders(root: Path) -> list[str]:
    """The models' folders in the repository; hidden ones and loose files are not meant."""
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be served of one model.

    Attributes:
        wanted: The versions to serve, with the fingerprint of each.
        present: All versions that are there.
        odd: Folders whose names are numbers, but not those of versions.
        text: What the operator says of the model.
        config: The same, understood.
        wrong: Why nothing of it can be served, if so.
    """

    wanted: dict[str, Fingerprint]
    present: frozenset[str]
    odd: frozenset[str]
    text: str
    config: Config
    wrong: str = ""


def plan(root: Path, name: str) -> Plan | None:
    """What is to be served of the model called ``name``; nothing, if it has no folder."""
    folder = root / name
    try:
        entries = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        why = f"its folder cannot be read: {error.strerror}"
        return Plan({}, frozenset(), frozenset(), "", Config(), why)
    present = [entry for entry in entries if VERSION.fullmatch(entry)]
    odd = frozenset(e for e in entries if NUMBER.fullmatch(e)) - frozenset(present)
    text, config, wrong = "", Config(), ""
    try:
        text = _text(root, folder)
        config = configs.parsed(text)
    except ModelRefused as error:
        wrong = str(error)
    chosen = [] if wrong else config.versions.among(present)
    if not wrong and not chosen:
        wrong = _nothing_chosen(present)
    wanted = {version: fingerprint(folder, version) for version in chosen}
    return Plan(wanted, frozenset(present), odd, text, config, wrong)


def _nothing_chosen(present: list[str]) -> str:
    if not present:
        return f"it has no version: expected a folder such as 1, with {MODEL} in it"
    return f"{configs.NAME}: versions: expected one of those there, {', '.join(present)}"


def _text(root: Path, folder: Path) -> str:
    path = folder / configs.NAME
    if not os.path.lexists(path):
        return ""
    admit(path, root, configs.LONGEST)
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ModelRefused(f"{path.name}: it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ModelRefused(f"{path.name}: expected UTF-8, got {error.reason}") from error


def fingerprint(folder: Path, version: str) -> Fingerprint:
    """What tells that nothing has changed of a version, nor of what is said of the model."""
    paths = [folder / configs.NAME, *_files(folder / version)]
    return tuple(_stamp(folder, path) for path in paths)


def _files(folder: Path) -> list[Path]:
    found = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return sorted(path for path, _ in zip(found, range(MOST_FILES), strict=False))


def _stamp(folder: Path, path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return str(path.relative_to(folder)), -1, 0, 0
    return str(path.relative_to(folder)), status.st_size, status.st_mtime_ns, status.st_ino


def admit(path: Path, inside: Path, largest: int) -> None:
    """See that a file may be opened.

    Raises:
        ModelRefused: It is not there, no regular file, not really inside the folder, linked to from
            elsewhere, or too large.
    """
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelRefused(f"{path.name}: there is no such file") from error
    if not real.is_relative_to(inside.resolve()):
        raise ModelRefused(f"{path.name}: a link leads out of {inside.name}")
    for wrong, why in _unfit(status, largest):
        if wrong:
            raise ModelRefused(f"{path.name}: {why}")


def _unfit(status: os.stat_result, largest: int) -> Iterator[tuple[bool, str]]:
    yield not stat.S_ISREG(status.st_mode), "expected a regular file"
    # ONNX Runtime reads hard links to files outside, and only their number gives them away.
    yield status.st_nlink != 1, f"expected a file with one name, got {status.st_nlink} hard links"
    yield not status.st_size, "it is empty"
    yield status.st_size > largest, f"expected at most {largest} bytes, got {status.st_size}"


def admit_version(root: Path, folder: Path) -> tuple[Contents, int]:
    """See that ONNX Runtime may open the version in ``folder``; tell what is in it, and its bytes.

    Raises:
        ModelRefused: It is no ONNX file, or its tensors lie where they may not.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise ModelRefused(f"{folder.name}: a link leads out of the repository")
    path = folder / MODEL
    admit(path, folder, LARGEST_GRAPH)
    found = contents(path)
    size = path.stat().st_size
    for external in found.externals:
        _admit_external(folder, external)
    locations = {folder / external.location for external in found.externals}
    return found, size + sum(location.stat().st_size for location in locations)


def _admit_external(folder: Path, external: External) -> None:
    location = external.location
    parts = location.split("/")
    # ONNX Runtime takes some names with asterisks for addresses in memory.
    if set(location) & set("*\\\0:") or not location or len(location) > LONGEST_LOCATION:
        raise ModelRefused("a tensor's location is no relative path")
    if ".." in parts or location.startswith("/"):
        raise ModelRefused("a tensor's location leads out of the version's folder")
    path = folder / location
    admit(path, folder, LARGEST_DATA)
    size = path.stat().st_size
    if external.end > size:
        raise ModelRefused(f"{path.name}: expected {external.end} bytes or more, got {size}")
