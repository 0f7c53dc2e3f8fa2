"""The operator's folder: what lies in it, what of that may be opened, and what has changed."""

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

TRITON_CONFIG = "config.pbtxt"
TRITON_NOTE = f"{TRITON_CONFIG} is not read: settings of a model are in {configs.NAME}"

Stamp = tuple[str, int, int, int, int]
Fingerprint = tuple[Stamp, ...]
"""Path, size, times of change and inode of each file: a change of one means another trial.

They include the change time of the inode (ctime), because programs can set the modification time
back.
"""


def is_name(text: str) -> bool:
    """Whether a model may be called that."""
    return bool(NAME.fullmatch(text)) and text not in {".", ".."}


def folders(root: Path) -> list[str]:
    """The models' folders in the repository; hidden ones and loose files are not meant."""
    shown = (path for path in root.iterdir() if not path.name.startswith("."))
    return sorted(path.name for path in shown if is_folder(path))


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder; a broken or circular link is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Plan:
    """Versions of one model to serve, and its configuration.

    Attributes:
        wanted: The versions to serve, with the fingerprint of each.
        present: All existing versions.
        odd: Folders with numeric names that are not valid versions.
        text: Text of the model's configuration.
        config: The parsed configuration.
        note: A note on the folder of a served model.
        wrong: The reason why no version can be served, if there is one.
    """

    wanted: dict[str, Fingerprint]
    present: frozenset[str]
    odd: frozenset[str]
    text: str
    config: Config
    wrong: str = ""
    note: str = ""


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
    note = TRITON_NOTE if os.path.lexists(folder / TRITON_CONFIG) else ""
    return Plan(wanted, frozenset(present), odd, text, config, wrong, note)


def _nothing_chosen(present: list[str]) -> str:
    if not present:
        return f"it has no version: expected a folder such as 1, with {MODEL} in it"
    return f"{configs.NAME}: versions: expected one of those there, {', '.join(present)}"


def _text(root: Path, folder: Path) -> str:
    path = folder / configs.NAME
    if not os.path.lexists(path):
        return ""
    try:
        return read(path, root, configs.LONGEST).decode()
    except UnicodeDecodeError as error:
        raise ModelRefused(f"{path.name}: expected UTF-8, got {error.reason}") from error


def fingerprint(folder: Path, version: str) -> Fingerprint:
    """What tells that nothing has changed of a version, nor of what is said of the model."""
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
