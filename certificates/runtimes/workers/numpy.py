"""NumPy: activations computed from their records, without a graph.

The reference evaluator, which is NumPy too, runs the other nodes of a model.
"""

import numpy as np

from gatewave.certificates.runtimes.record_operators import record_operators
from gatewave.graphs.analysis.numpy_ops import NumpyOps
from gatewave.graphs.ops import signature
from gatewave.graphs.verify.evaluator import running


class NarrowOps(NumpyOps):
    """Operations in float32, in which the types of 16 bits are computed."""

    precision_bits = 24


def versions():
    return {"numpy": np.__version__}


def load(path, inputs, outputs):
    return running(path, outputs, record_operators(compute))


def compute(operator, graph, arrays, reals):
    dtype = arrays[0].dtype
    is_double = dtype == np.float64
    wide = (array.astype(np.float64 if is_double else np.float32) for array in arrays)
    op = NumpyOps() if is_double else NarrowOps()
    results = signature.function(operator, graph)(op, *wide, **reals)
    return [np.asarray(result).astype(dtype) for result in results]
