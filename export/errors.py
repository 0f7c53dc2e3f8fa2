"""Errors of exports and rewrites.

ExportError
├── NotAnActivationError   what was named is no elementwise function that can be exported
├── ArgumentsError         what `to_onnx` is given does not fit the module, or cannot be exported
├── NotRunnableError       ONNX Runtime refuses the graph
├── ToleranceError         the graph misses the tolerance of its record
├── ModelError             a model that cannot be read: damaged, unsound or unsafe
├── TargetError            a target that is not known, or that a model cannot be brought to
├── VerificationError      a rewritten or exported model differs from its original
└── NotWrittenError        a file cannot be written: no room, not allowed
"""


class ExportError(Exception):
    """An export that was given up; the message says what, where and why."""


class NotAnActivationError(ExportError):
    """What was named cannot be exported as an activation."""


class ArgumentsError(ExportError):
    """The module, examples, shapes or opset that `to_onnx` is given cannot be exported."""


class NotRunnableError(ExportError):
    """ONNX Runtime cannot load a model, or fails to run it."""


class ToleranceError(ExportError):
    """A model misses what its record promises, or a record what its formula promises."""


class ModelError(ExportError):
    """A model's file is missing, damaged, unsound or unsafe, or would be overwritten."""


class TargetError(ExportError):
    """No target has this name, or the model cannot be brought to it."""


class VerificationError(ExportError):
    """A rewritten or exported model does not compute what its original does; it is not kept."""


class NotWrittenError(ExportError):
    """The file system refuses a file; what stood there stays as it was."""
