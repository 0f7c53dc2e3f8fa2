"""Recognised activations of small graphs, and spellings that several tests share."""

import math

import onnx_ir as ir
from drawing import Drawing

from gatewave.graphs.recognition.sites import sites


def found(model):
    return [(site.kind, dict(site.reals)) for site in sites(model)]


def write_sinc(op, x, *, condition=lambda op, x, _: op.Equal(x, 0.0), pi=math.pi):
    pi_x = op.Mul(x, pi)
    return op.Where(condition(op, x, pi_x), 1.0, op.Div(op.Sin(pi_x), pi_x))


def function_of(write, inputs):
    body = Drawing(style="node")
    values = [ir.Value(name=name) for name in "ab"[:inputs]]
    result = write(body, *values)
    graph = ir.Graph(values, [result], nodes=body.nodes, opset_imports={"": 18})
    return ir.Function("some.package", "Activation", graph=graph, attributes=[])


GUARDED = {
    "relu": lambda op, x: op.Relu(x),
    "sigmoid": lambda op, x: op.Sigmoid(x),
    "sigmoid by tanh": lambda op, x: op.Mul(0.5, op.Add(1.0, op.Tanh(op.Div(x, 2.0)))),
    "softplus": lambda op, x: op.Softplus(x),
    "softplus by log": lambda op, x: op.Log(op.Add(op.Exp(x), 1.0)),
    "swish": lambda op, x: op.Mul(x, op.Sigmoid(x)),
}


def write_swish(op, x):
    return op.Mul(x, op.Sigmoid(x))
