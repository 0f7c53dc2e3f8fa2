"""Errors of graphs, exports and certificates.

GatewaveError
├── ModelError             a model that cannot be read: damaged, unsound or unsafe
├── NotRunnableError       no runtime loads or runs the model
├── TargetError            an unknown target, or a model that cannot be brought to it
├── VerificationError      a rewritten or exported model differs from its original
├── NotWrittenError        a file cannot be written: no room, not allowed
└── export.errors          errors of exports from Torch
"""


class GatewaveError(Exception):
    """Work that was given up; the message names the object, the place and the reason."""


class ModelError(GatewaveError):
    """A model's file is missing, damaged, unsound or unsafe, or would be overwritten."""


class NotRunnableError(GatewaveError):
    """A runtime cannot load a model, or fails to run it."""


class TargetError(GatewaveError):
    """No target has this name, or the model cannot be brought to it."""


class VerificationError(GatewaveError):
    """A rewritten or exported model differs from its original; it is not kept."""


class NotWrittenError(GatewaveError):
    """The file system refuses a file; an existing file stays as it was."""
