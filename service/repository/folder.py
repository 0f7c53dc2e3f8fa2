"""Operator's folder: its models and versions, their configurations, and changes of their files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from gatewave.service.errors import ModelRefused
from gatewave.service.repository import config as configs
from gatewave.service.repository.config import Config
from gatewave.service.repository.files import MODEL, read

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
NUMBER = re.compile(r"-?[0-9]{1,64}")

MAX_FILES = 10_000
"""Number of files of one version that its fingerprint covers."""

TRITON_CONFIG = "config.pbtxt"
TRITON_NOTE = f"{TRITON_CONFIG} is ignored: the settings of a model are in {configs.NAME}"

Stamp = tuple[str, int, int, int, int]
Fingerprint = tuple[Stamp, ...]
"""Path, size, modification time, change time and inode of each file.

A change of one of them causes another trial. The change time of the inode (ctime) is included
because programs can set the modification time back.
"""


def is_name(text: str) -> bool:
    """Return whether ``text`` is a valid name of a model."""
    return bool(NAME.fullmatch(text)) and text not in {".", ".."}


def model_folders(root: Path) -> list[str]:
    """Return the names of the folders in the repository, without hidden ones."""
    visible = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(path.name for path in visible if is_folder(path))


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; a broken or circular link is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Versions of one model that should be served, and its configuration.

    Attributes:
        wanted: The versions to serve, with the fingerprint of each.
        present: All existing versions.
        invalid: Folders with numeric names that are not valid versions.
        text: Text of the model's configuration.
        config: The parsed configuration.
        error: The reason why no version can be served; empty if there is none.
        note: A note on the folder of a served model.
    """

    wanted: dict[str, Fingerprint]
    present: frozenset[str]
    invalid: frozenset[str]
    text: str
    config: Config
    error: str = ""
    note: str = ""


def read_plan(root: Path, name: str) -> ModelPlan | None:
    """Return the plan of the model called ``name``, or None if it has no folder."""
    folder = root / name
    try:
        entries = [entry.name for entry in folder.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = f"the model's folder cannot be read: {error.strerror}"
        return ModelPlan({}, frozenset(), frozenset(), "", Config(), reason)
    present = [entry for entry in entries if VERSION.fullmatch(entry)]
    invalid = frozenset(e for e in entries if NUMBER.fullmatch(e)) - frozenset(present)
    text, config, problem = "", Config(), ""
    try:
        text = _text(root, folder)
        config = configs.parse(text)
    except ModelRefused as error:
        problem = str(error)
    chosen = [] if problem else config.versions.choose(present)
    if not problem and not chosen:
        problem = _no_version(present)
    wanted = {version: fingerprint(folder, version) for version in chosen}
    note = TRITON_NOTE if os.path.lexists(folder / TRITON_CONFIG) else ""
    return ModelPlan(wanted, frozenset(present), invalid, text, config, problem, note)


def _no_version(present: list[str]) -> str:
    if not present:
        return f"the model has no version: expected a folder such as 1, with {MODEL} in it"
    return f"{configs.NAME}: versions: expected one of the existing versions, {', '.join(present)}"


def _text(root: Path, folder: Path) -> str:
    path = folder / configs.NAME
    if not os.path.lexists(path):
        return ""
    try:
        return read(path, root, configs.MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ModelRefused(f"{path.name}: expected UTF-8, got {error.reason}") from error


def fingerprint(folder: Path, version: str) -> Fingerprint:
    """Return the fingerprint of a version's files and the model's configuration."""
    paths = [folder / configs.NAME, *_files(folder / version)]
    return tuple(_stamp(folder, path) for path in paths)


def _files(folder: Path) -> list[Path]:
    found = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    return sorted(path for path, _ in zip(found, range(MAX_FILES), strict=False))


def _stamp(folder: Path, path: Path) -> Stamp:
    name = str(path.relative_to(folder))
    try:
        status = path.stat()
    except OSError:
        return name, -1, 0, 0, 0
    return name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
