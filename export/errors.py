"""What can go wrong in an export.

ExportError
├── NotAnActivationError   what was named is no elementwise function that can be exported
├── NotRunnableError       ONNX Runtime refuses the graph
└── ToleranceError         the graph misses the tolerance of its record
"""


class ExportError(Exception):
    """An export that was given up; the message says what, where and why."""


class NotAnActivationError(ExportError):
    """What was named cannot be exported as an activation."""


class NotRunnableError(ExportError):
    """ONNX Runtime cannot load a model, or fails to run it."""


class ToleranceError(ExportError):
    """A model misses what its record promises, or a record what its formula promises."""
