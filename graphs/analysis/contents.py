"""The tensors of a model: initializers and attributes, in graphs, bodies and functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping

import onnx_ir as ir

from gatewave.graphs.analysis.scopes import Scope, scopes

Swap = Callable[[ir.TensorProtocol], ir.TensorProtocol | None]
"""Returns the replacement of a tensor; None leaves the tensor."""


def tensors_of(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor of ``model``, wherever it is."""
    for scope in scopes(model):
        for value in _initializers(scope):
            if value.const_value is not None:
                yield value.const_value
        for attributes in _attributes(scope):
            for attribute in attributes.values():
                yield from _tensors_in(attribute)


@contextlib.contextmanager
def swapped(model: ir.Model, swap: Swap) -> Iterator[None]:
    """Exchange the tensors of ``model`` inside the block, and restore them afterwards."""
    with contextlib.ExitStack() as undo:
        for scope in scopes(model):
            for value in _initializers(scope):
                old = value.const_value
                if old is not None and (new := swap(old)) is not None:
                    undo.callback(setattr, value, "const_value", old)
                    value.const_value = new
            for attributes in _attributes(scope):
                for attribute in list(attributes.values()):
                    if (new_attribute := _swapped_in(attribute, swap)) is not attribute:
                        undo.callback(attributes.__setitem__, attribute.name, attribute)
                        attributes[attribute.name] = new_attribute
        yield


def _initializers(scope: Scope) -> Iterable[ir.Value]:
    graph = scope.graph
    return graph.initializers.values() if isinstance(graph, ir.Graph) else ()


def _attributes(scope: Scope) -> Iterator[MutableMapping[str, ir.Attr]]:
    if isinstance(scope.graph, ir.Function):
        yield scope.graph.attributes
    yield from (node.attributes for node in scope.graph)


def _tensors_in(attribute: ir.Attr) -> list[ir.TensorProtocol]:
    if attribute.is_ref() or attribute.value is None:
        return []
    if attribute.type == ir.AttributeType.TENSOR:
        return [attribute.value]
    return [*attribute.value] if attribute.type == ir.AttributeType.TENSORS else []


def _swapped_in(attribute: ir.Attr, swap: Swap) -> ir.Attr:
    old = _tensors_in(attribute)
    swaps = [swap(tensor) for tensor in old]
    if all(new is None for new in swaps):
        return attribute
    tensors = [was if new is None else new for was, new in zip(old, swaps, strict=True)]
    name, said = attribute.name, attribute.doc_string
    if attribute.type == ir.AttributeType.TENSOR:
        return ir.AttrTensor(name, tensors[0], doc_string=said)
    return ir.AttrTensors(name, tensors, doc_string=said)
