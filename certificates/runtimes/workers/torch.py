"""Torch in eager mode: activations computed by the modules that they are exported from.

Torch computes their derivatives from the records' formulas. Autograd multiplies factor by factor,
and may overflow where the derivative itself does not. The reference evaluator runs the other nodes
of a model.
"""

import torch

from gatewave.certificates.runtimes.record_operators import record_operators
from gatewave.export.torch.arrays import array_of, tensor_of
from gatewave.graphs.ops import signature
from gatewave.graphs.verify.evaluator import running
from gatewave.models.torch.ops import rounded_once, torch_ops

torch.set_num_threads(1)


def versions():
    return {"torch": torch.__version__}


def load(path, inputs, outputs):
    return running(path, outputs, record_operators(compute))


def compute(operator, graph, arrays, reals):
    tensors = [tensor_of(array) for array in arrays]

    @rounded_once
    def derived(*wide):
        return signature.function(operator, graph)(torch_ops(wide[0]), *wide, **reals)

    results = [] if graph == "value" else derived(*tensors)
    if graph != "vjp":
        results = [operator.build(**reals)(*tensors), *results[1:]]
    return [array_of(result) for result in results]
