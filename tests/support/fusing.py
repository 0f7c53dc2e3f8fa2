"""Activations drawn in basic operators, and fused copies of models."""

import onnx_ir as ir

from gatewave.graphs.rewrite.fuse import fuse


def fused(model, **options):
    """Return a fused copy, the outcome, and the operators in its graph."""
    copy = ir.from_proto(ir.to_proto(model))
    outcome = fuse(copy, **options)
    return copy, outcome, [node.op_type for node in copy.graph]


def swiglu(op, a, b):
    return op.Mul(op.Mul(a, op.Sigmoid(a)), b)


def silu(op, x):
    return op.Mul(x, op.Sigmoid(x))
