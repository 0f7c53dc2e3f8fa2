"""Arrays by name, in the .npz files of NumPy."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from gatewave.graphs.processes.messages import Array


def read(path: Path) -> dict[str, Array]:
    """Return the arrays in an .npz file, by name.

    Raises:
        OSError: It cannot be read.
        ValueError: The file is no archive, or holds Python objects.
    """
    try:
        # Pickled objects could run code.
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from error
