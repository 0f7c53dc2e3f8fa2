"""Classification of ONNX Runtime's error messages for models of one node."""

from __future__ import annotations

import re

from gatewave.graphs.targets.tables import Fate

REFUSALS = (
    re.compile("NOT_IMPLEMENTED"),  # no kernel for these element types, or this opset
    re.compile(r"Type Error: Type '"),  # its schema does not allow the element type
    re.compile("InsertedPrecisionFreeCast"),  # float16 is computed in float32, and not everywhere
    re.compile("is not currently registered or supported"),  # it does not know the element type
    re.compile(r"is not a registered function/op|No Op registered for"),
)
"""Messages that refuse an operator in these element types, whatever its attributes and shapes.

Other errors, such as failed shape inference, may be due to the one-node model.
"""

OTHER_OPERATOR = re.compile(r"Type parameter \(\w+\) of Optype \((\w+)\) bound to different types")
"""A type error inside the body by which ONNX defines an operator."""


def fate_of(refusal: str, op_type: str) -> Fate | None:
    """Return the verdict on the operator; None if ``refusal`` may be due to the model.

    Args:
        refusal: The runtime's reason for not loading a model of that node; empty if it loads.
        op_type: The operator.
    """
    if not refusal:
        return "loads"
    inner = OTHER_OPERATOR.search(refusal)
    if any(pattern.search(refusal) for pattern in REFUSALS) or (inner and inner[1] != op_type):
        return "refused"
    return None
