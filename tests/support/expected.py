"""Exact results of the records, computed once in each process, and checks against them."""

import functools
from dataclasses import dataclass

import torch

from gatewave.export.accuracy import certify, reference
from gatewave.export.accuracy.reference import Exact
from gatewave.graphs.ops import signature


@dataclass(frozen=True)
class Expectation:
    """Inputs of a graph, and the exact results of all its outputs."""

    inputs: dict[str, torch.Tensor]
    wanted: dict[str, Exact]


def expectation(activation, operator, graph, dtype):
    """Return the samples of a graph with their exact results; tests only read them.

    Those of a value are the first of a gradient: both have the same samples.
    """
    both = "vjp" if graph == "vjp" else "grad"
    # mpmath takes seconds for float64, and its few results are kept. Those of the other types are
    # computed in milliseconds, and are megabytes.
    cached = _kept if dtype == "float64" else _lately
    found = cached(activation, operator, both, dtype)
    names = signature.outputs(activation, graph)
    return Expectation(found.inputs, {name: found.wanted[name] for name in names})


def _computed(activation, operator, graph, dtype):
    tensors = reference.samples(activation, graph, dtype)
    inputs = dict(zip(signature.inputs(activation, graph), tensors, strict=True))
    exact = reference.exact(activation, operator, graph, tensors)
    return Expectation(inputs, dict(zip(signature.outputs(activation, graph), exact, strict=True)))


_kept = functools.cache(_computed)
_lately = functools.lru_cache(maxsize=4)(_computed)


def check_within(operator, dtype, results, expected, tolerance_of=certify.tolerance_of):
    """Check that ``results`` differ from the exact ones by no more than a tolerance allows.

    Args:
        operator: Operator of the record.
        dtype: Type of the results.
        results: Tensors by the names of the outputs.
        expected: The `Expectation`.
        tolerance_of: Function of the operator, the name of an output, and the dtype.
    """
    assert results.keys() == expected.wanted.keys()
    scale = certify.scale_of(operator, expected.inputs)
    infinite = torch.stack(list(expected.inputs.values())).isinf().any(dim=0)
    for name, result in results.items():
        tolerance = tolerance_of(operator, name, dtype)
        _, measured = certify.measure(result, expected.wanted[name], tolerance, scale, infinite)
        assert measured.used <= 1, (name, tolerance, measured)
