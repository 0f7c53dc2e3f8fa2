"""Evaluation of elementwise functions over files of any size, in chunks.

``.npy``, ``.npz`` and ``.safetensors`` hold arrays; ``.parquet`` and ``.csv`` hold tables, which
need the extra ``tables``. Rules for all formats:

- An input of another integer or float type is converted; a finite number that would become infinite
  is an error, and so is a null or an empty field in a table: fill it, or drop the row.
- NumPy's formats and tables cannot name bfloat16: only ``.safetensors`` takes it.
- A table keeps its columns, CSV byte by byte. CSV has no types: in Parquet its inputs become
  numbers of the dtype asked for, its other columns text.
- The target is replaced when it is complete; after an error it is as it was.

Errors by kind:

FileError
├── FileAccessError       not there, not allowed, no room
├── UnsupportedFileError  the format cannot carry the request
├── DamagedFileError      cut short, corrupt, or of another format than its suffix
└── ContentError          sound, but names, shapes, types or values do not fit the function
"""

from gatewave.cli.files.errors import (
    ContentError,
    DamagedFileError,
    FileAccessError,
    FileError,
    UnsupportedFileError,
)
from gatewave.cli.files.evaluation import FAMILIES, evaluate_file
from gatewave.service.codecs.datatypes import DType

__all__ = [
    "FAMILIES",
    "ContentError",
    "DType",
    "DamagedFileError",
    "FileAccessError",
    "FileError",
    "UnsupportedFileError",
    "evaluate_file",
]
