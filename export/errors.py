"""Errors of exports and rewrites.

ExportError
├── NotAnActivationError   the named object is no elementwise function that can be exported
├── ArgumentsError         arguments of `to_onnx` do not fit the module, or cannot be exported
├── NotRunnableError       ONNX Runtime refuses the graph
├── ToleranceError         the graph misses the tolerance of its record
├── ModelError             a model that cannot be read: damaged, unsound or unsafe
├── TargetError            a target that is not known, or that a model cannot be brought to
├── VerificationError      a rewritten or exported model differs from its original
└── NotWrittenError        a file cannot be written: no room, not allowed
"""


class ExportError(Exception):
    """An export that was given up; the message names the object, the place and the reason."""


class NotAnActivationError(ExportError):
    """The named object cannot be exported as an activation."""


class ArgumentsError(ExportError):
    """The module, examples, shapes or opset that `to_onnx` is given cannot be exported."""


class NotRunnableError(ExportError):
    """ONNX Runtime cannot load a model, or fails to run it."""


class ToleranceError(ExportError):
    """A model misses its record's tolerance, or a record differs from its formula."""


class ModelError(ExportError):
    """A model's file is missing, damaged, unsound or unsafe, or would be overwritten."""


class TargetError(ExportError):
    """No target has this name, or the model cannot be brought to it."""


class VerificationError(ExportError):
    """A rewritten or exported model differs from its original; it is not kept."""


class NotWrittenError(ExportError):
    """The file system refuses a file; an existing file stays as it was."""
