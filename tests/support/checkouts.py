"""Copies of this checkout, for tests that build or change it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("certificates", "cli", "export", "graphs", "models", "service", "src")
"""Folders of the package; those in ``src`` are links to the others."""


def copy_checkout(folder, *more, ignored=()):
    """Copy the rooms of the package to ``folder``, and the folders and files ``more``.

    Args:
        folder: An existing folder.
        more: Further names at the top of the checkout.
        ignored: Patterns of names that are not copied.
    """
    patterns = shutil.ignore_patterns("__pycache__", *ignored)
    for name in (*ROOMS, *more):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=patterns)
        else:
            shutil.copy(ROOT / name, folder)
    return folder
