"""Activations inside another operator: given by an attribute, or computed in quantised numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from gatewave.graphs.analysis.node_functions import CONTRIB

RECURRENT: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
    "DynamicQuantizeLSTM": ("Sigmoid", "Tanh", "Tanh"),
    "AttnLSTM": ("Sigmoid", "Tanh", "Tanh"),
}
"""Default activations of recurrent operators."""

QUANTISED: Mapping[str, str] = {
    "QLinearSigmoid": "sigmoid",
    "QLinearLeakyRelu": "leaky-relu",
    "QOrderedGelu": "gelu",
}

WHOLE: Mapping[str, tuple[str, str]] = {
    "BiasSplitGelu": ("geglu", "of x + bias, whose halves are packed in one tensor"),
    "GemmFastGelu": ("gelu-tanh", "of a matrix product"),
    "ScaledSiLU": ("swish", "and scales it"),
}
"""Contributed operators that compute more than the activation."""

NAMES: Mapping[str, str] = {
    "silu": "swish",
    "leakyrelu": "leaky-relu",
    "hardsigmoid": "hardsigmoid",
    "scaledtanh": "tanh",
    "thresholdedrelu": "thresholded-relu",
    "relu2": "squared-relu",
    "relu_squared": "squared-relu",
    "swiglu": "swiglu-linear",
}
"""Kinds by the words that attributes have, in small letters, where the two differ."""

NOTHING = {"", "none", "identity", "affine"}

GROUP_NORMS = ("GroupNorm", "SkipGroupNorm")
"""Operators whose ``activation`` is a number: 1 is SiLU."""


def embedded(node: ir.Node) -> Iterator[tuple[str, str]]:
    """Yield the activations inside ``node``, each with the reason why it cannot be replaced."""
    # com.microsoft and its parts, such as com.microsoft.nchwc and com.ms.internal.nhwc.
    contributed = node.domain.startswith("com.m")
    if node.op_type in RECURRENT and (node.domain == "" or contributed):
        yield from _recurrent(node)
    elif contributed:
        yield from _contributed(node)


def _recurrent(node: ir.Node) -> Iterator[tuple[str, str]]:
    attribute = node.attributes.get("activations")
    if attribute is None or attribute.is_ref():
        words, said = RECURRENT[node.op_type], "as is its default"
    else:
        words, said = tuple(attribute.as_strings()), "by its attribute activations"
    for word in dict.fromkeys(words):
        if word.lower() not in NOTHING:
            yield _kind(word), f"{node.op_type} computes it itself, {said}: no node can be replaced"


def _contributed(node: ir.Node) -> Iterator[tuple[str, str]]:
    if node.domain == CONTRIB and node.op_type in QUANTISED:
        yield QUANTISED[node.op_type], f"{node.op_type} computes it of quantised numbers"
    if node.domain == CONTRIB and node.op_type in WHOLE:
        kind, more = WHOLE[node.op_type]
        yield kind, f"{node.op_type} computes it {more}"
    for attribute in node.attributes.values():
        if attribute.is_ref() or "activation" not in attribute.name:
            continue
        reason = (
            f"{node.op_type} computes it itself, by its attribute {attribute.name}: "
            "no node can be replaced"
        )
        if attribute.type == ir.AttributeType.STRING:
            word = attribute.as_string()
            if word.lower() not in NOTHING:
                yield _kind(word), reason
        elif node.op_type in GROUP_NORMS and attribute.value == 1:
            yield "swish", reason


def _kind(word: str) -> str:
    return NAMES.get(word.lower(), word.lower())
