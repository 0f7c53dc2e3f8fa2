"""Errors of exports from Torch.

graphs.errors.GatewaveError
├── NotAnActivationError   the named object is no elementwise function that can be exported
├── ArgumentsError         arguments of `to_onnx` do not fit the module, or cannot be exported
└── ToleranceError         a graph exceeds the tolerance of its record
"""

from gatewave.graphs.errors import GatewaveError


class NotAnActivationError(GatewaveError):
    """The named object cannot be exported as an activation."""


class ArgumentsError(GatewaveError):
    """The module, examples, shapes or opset that `to_onnx` is given cannot be exported."""


class ToleranceError(GatewaveError):
    """A model exceeds its record's tolerance, or a record differs from its formula."""
