"""Torch modules as ONNX models, in which each activation is one node with its body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from torch import nn
from torch.export import ExportedProgram

from gatewave.export.operators import attributes_to_inputs
from gatewave.export.torch.calls import opened
from gatewave.export.torch.trace import OPSET
from gatewave.export.torch.translations import as_nodes
from gatewave.graphs.ops.functions import body_of
from gatewave.graphs.ops.graph_ops import dtype_of
from gatewave.graphs.ops.signature import DOMAIN
from gatewave.models import DType
from gatewave.models.catalogue import OPERATORS


def to_onnx(
    module: nn.Module | ExportedProgram,
    arguments: Mapping[str, Any],
    *,
    dynamic_shapes: Any = None,
    opset: int = OPSET,
    verify: bool = True,
) -> ir.Model:
    """Export any Torch ``module``: the activations of ours inside it are nodes with their bodies.

    Torch's own `sinc`, `silu` and `glu`, as modules or as functions, become nodes too. So does a
    SiLU after a convolution, although ONNX Runtime could fuse the plain operators with it.

    The graph computes the same as a call of the module, hooks and patched forwards included, in
    evaluation mode. The module is left as it was.

    Args:
        module: A network with activations of `models`, or of Torch, anywhere inside; or a program
            that ``torch.export.export`` made of one, or its ``module()``.
        arguments: Example inputs by the names of the graph's inputs: tensors, or lists, tuples and
            dictionaries of tensors, which get the names that Torch gives them: ``xs_0``. If
            the names are those of ``forward``'s parameters, they bind by name, in any order. If
            none of them is, they bind by position. The graph's inputs are in the order given.
        dynamic_shapes: As ``torch.onnx.export`` takes them: a sequence with an entry for each of
            ``arguments``, in their order, or a dictionary, by the names given or by those of
            ``forward``. Without it all shapes are fixed. A program has decided on them already.
        opset: Version of the standard operators, as ``torch.onnx.export`` takes it.
        verify: Run the model, and compare it with the module, before it is returned: on
            the example, on generated inputs, and at other sizes where they are dynamic. Outputs
            that are random are not compared; the log says so.

    Raises:
        ArgumentsError: The module, names, examples, shapes or opset do not fit together.
        torch.onnx.OnnxExporterError: Torch cannot export the module.
        VerificationError: The model differs from the module.
        NotRunnableError: No runtime here runs the model, which therefore cannot be verified.
    """
    operators = [operator for _, operator in OPERATORS.values()]
    with opened(module, arguments, dynamic_shapes) as call:
        capture = call.exported(operators, opset=opset, translations=as_nodes())
        model = capture.model
        first: dict[str, DType] = {}
        for node in [n for n in model.graph.all_nodes() if n.domain == DOMAIN]:
            dtype = dtype_of(node.outputs[0])
            body = body_of(*OPERATORS[node.op_type], "value", dtype, model.opset_imports[""])
            if first.setdefault(node.op_type, dtype) != dtype:
                node.overload = body.overload = dtype
            model.functions[body.identifier()] = body
            attributes_to_inputs(node, model.graph, dtype)
        if verify:
            call.verify(capture, operators)
    return model
