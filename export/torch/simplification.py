"""Simplification of the graphs that Torch's exporter writes, with exact rules only.

onnxscript 0.7.2 treats a constant within 1e-5 of 1 as 1, and one within 1e-8 of 0 as 0, in
rewriter/rules/common/_no_op.py: it writes `log(x + 1e-9)` as `log(x)`, which is -inf at 0.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from onnxscript import rewriter
from onnxscript.rewriter._pattern_ir import Constant
from onnxscript.rewriter.rules.common import _no_op
from torch.onnx import ONNXProgram

RULES = rewriter._DEFAULT_REWRITE_RULES  # noqa: SLF001 - it has no other name
"""The package's own rules."""

LOCK = threading.Lock()
"""Lock held while the rules are exchanged: they are a global of the package."""


def simplify(program: ONNXProgram) -> None:
    """Optimise the model of ``program``, in place, as Torch does; keep all constants."""
    exact = (*_exact(), *(rule for rule in RULES if rule not in {*_no_op.rules}))
    with LOCK:
        rewriter._DEFAULT_REWRITE_RULES = exact  # noqa: SLF001 - `optimize` takes none
        try:
            program.optimize()
        finally:
            rewriter._DEFAULT_REWRITE_RULES = RULES  # noqa: SLF001


def _exact() -> list[rewriter.RewriteRule]:
    """Return the rules about 0 and 1, restricted to constants that are exactly 0 and 1."""
    zero, one = (Constant(number, rel_tol=0.0, abs_tol=0.0) for number in (0, 1))
    return [
        *_identity(lambda _, x: x * one).commute(),
        *_identity(lambda _, x: x + zero).commute(),
        _identity(lambda _, x: x - zero),
        _identity(lambda _, x: x / one),
        _no_op.dropout_zero_rule,
        _no_op.dropout_inference_rule,
    ]


def _identity(pattern: Callable[..., Any]) -> rewriter.RewriteRule:
    return rewriter.RewriteRule(pattern, lambda op, x, **_: op.Identity(x))
