"""Tiny models for probing a runtime: an operator, in an element type, at an opset."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from gatewave.graphs.ops.graph_ops import ONNX_TYPES
from gatewave.models import DTYPES, DType

OPSETS = (17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28)
OLDEST = 17
VALUES = (-2.5, -0.5, 0.25, 3.0)
"""Inputs of the models; different activations give different results."""

IR_OF_OPSET = {24: 11, 25: 12, 26: 13, 27: 14, 28: 14}
"""IR version that came with an opset. Older opsets use 8, which every runtime reads."""


@dataclass(frozen=True, slots=True)
class Probed:
    """An operator with the inputs and attributes that are tried.

    Attributes:
        identifier: Its domain and its name.
        inputs: Number of inputs, all of the element type that is tried.
        attributes: Attributes of the node.
        condition: True if one more input comes first, the condition of ``Where``.
        any_attributes: True if the result holds for all values of the attributes, as the tried ones
            are not the defaults.
    """

    identifier: tuple[str, str]
    inputs: int = 1
    attributes: tuple[tuple[str, float | str], ...] = ()
    condition: bool = False
    any_attributes: bool = False

    def __str__(self) -> str:
        words = ", ".join(f"{name}={value}" for name, value in self.attributes)
        name = "::".join(part for part in self.identifier if part)
        return f"{name}({words})" if words else name


def _standard(name: str, inputs: int = 1, **attributes: float | str) -> Probed:
    return Probed(("", name), inputs, tuple(attributes.items()))


CONTRIB = "com.microsoft"
CUSTOM = "ai.gatewave.probe"

PROBED = (
    _standard("Swish", alpha=1.0),
    Probed(("", "Swish"), attributes=(("alpha", 2.0),), any_attributes=True),
    _standard("SwiGLU", 2),
    _standard("Mish"),
    _standard("Gelu", approximate="none"),
    _standard("Gelu", approximate="tanh"),
    _standard("HardSwish"),
    _standard("HardSigmoid"),
    *map(
        _standard,
        ("Sigmoid", "Sin", "Cos", "Erf", "Exp", "Tanh", "Softplus", "Round", "Floor", "Abs", "Neg"),
    ),
    *(_standard(name, 2) for name in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    Probed(("", "Where"), 2, condition=True),
    *(Probed((CONTRIB, name)) for name in ("Gelu", "QuickGelu", "FastGelu")),
    Probed((CONTRIB, "SwiGLU"), 2),
)

FUNCTION = Probed((CUSTOM, "Function"))
"""A model-local function of one standard operator."""

SILU = Probed((CUSTOM, "SiLU"))
"""``x · Sigmoid(x)``.

ONNX Runtime 1.18 to 1.30 fuse it in float64 into QuickGelu, which has no kernel for that type: the
model does not load.
"""

RELU_CLIP = Probed((CUSTOM, "ReluClip"))
"""`Relu`, then `Clip` with a constant minimum, whose fusion fails in some element types."""


def since(probed: Probed) -> int:
    """Return the first opset that has the operator, but at least `OLDEST`."""
    if probed.identifier[0]:
        return OLDEST
    schema = onnx.defs.get_schema(probed.identifier[1], onnx.defs.onnx_opset_version())
    history = onnx.defs.get_all_schemas_with_history()
    versions = [s.since_version for s in history if (s.domain, s.name) == ("", schema.name)]
    return max(OLDEST, min(versions))


def cells() -> Iterator[tuple[Probed, DType, int]]:
    """Yield every model that is tried: an operator, an element type and an opset.

    An operator of another domain is tried at two opsets, as its result does not depend on them.
    """
    for probed, dtype in itertools.product((*PROBED, FUNCTION, SILU, RELU_CLIP), DTYPES):
        first = since(probed)
        for opset in OPSETS:
            if opset >= first and (not probed.identifier[0] or opset in {17, 22}):
                yield probed, dtype, opset


@functools.cache
def content(probed: Probed, dtype: DType, opset: int, ir_version: int | None = None) -> bytes:
    """Return the model.

    Inputs and outputs of a bfloat16 model are float32, and are cast inside: a worker may lack
    ml_dtypes, and NumPy alone has no bfloat16.
    """
    outer = ir.DataType.FLOAT if dtype == "bfloat16" else ONNX_TYPES[dtype]
    x = ir.Value(name="x", type=ir.TensorType(outer), shape=ir.Shape([len(VALUES)]))
    nodes = []

    def draw(op_type: str, inputs: list[ir.Value], domain: str = "", **attributes: Any) -> ir.Value:
        nodes.append(ir.node(op_type, inputs, attributes=attributes, domain=domain))
        nodes[-1].outputs[0].name = f"{op_type.lower()}_{len(nodes)}"
        return nodes[-1].outputs[0]

    operand = draw("Cast", [x], to=ONNX_TYPES[dtype].value) if dtype == "bfloat16" else x
    operands = [operand] * probed.inputs
    if probed.condition:
        zero = ir.tensor(np.zeros((), outer.numpy()))
        operands.insert(0, draw("Less", [x, draw("Constant", [], value=zero)]))
    functions = _functions(probed, dtype, opset)
    domain, name = probed.identifier
    y = draw(name, operands, domain, **dict(probed.attributes))
    if dtype == "bfloat16":
        y = draw("Cast", [y], to=outer.value)
    y.name, y.type, y.shape = "y", ir.TensorType(outer), ir.Shape([len(VALUES)])
    imports = {"": opset} | ({domain: 1} if domain else {})
    graph = ir.Graph([x], [y], nodes=nodes, opset_imports=imports, name="probe")
    model = ir.Model(graph, ir_version=ir_version or ir_of(opset), functions=functions)
    return bytes(ir.to_proto(model).SerializeToString())


def ir_of(opset: int) -> int:
    """Return the oldest IR version for a model of ``opset``."""
    return max((ir for since, ir in IR_OF_OPSET.items() if opset >= since), default=8)


def _functions(probed: Probed, dtype: DType, opset: int) -> list[ir.Function]:
    if probed.identifier[0] != CUSTOM:
        return []
    x = ir.Value(name="x")
    first = {SILU: "Sigmoid", RELU_CLIP: "Relu"}.get(probed, "Abs")
    nodes = [ir.node(first, [x])]
    if probed is SILU:
        nodes.append(ir.node("Mul", [x, nodes[0].outputs[0]]))
    if probed is RELU_CLIP:
        low = ir.tensor(np.zeros((), np.float32))
        nodes.append(ir.node("Constant", [], attributes={"value": low}))
        to = {"to": ONNX_TYPES[dtype].value}
        nodes.append(ir.node("Cast", [nodes[1].outputs[0]], attributes=to))
        nodes.append(ir.node("Clip", [nodes[0].outputs[0], nodes[2].outputs[0]]))
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"v{index}"
    body = ir.Graph([x], nodes[-1].outputs, nodes=nodes, opset_imports={"": opset})
    return [ir.Function(*probed.identifier, graph=body, attributes=[])]


@functools.cache
def expected(probed: Probed) -> tuple[float, ...]:
    """Return the operator's results from the reference evaluator in float32."""
    if probed.identifier[0] == CONTRIB:
        probed = MEANT[probed.identifier[1]]
    model = onnx.load_from_string(content(probed, "float32", OPSETS[-1]))
    (result,) = ReferenceEvaluator(model).run(None, {"x": np.array(VALUES, np.float32)})
    return tuple(np.asarray(result).tolist())


MEANT = {
    "Gelu": _standard("Gelu"),
    "FastGelu": _standard("Gelu", approximate="tanh"),
    "QuickGelu": _standard("Swish", alpha=1.702),
    "SwiGLU": _standard("SwiGLU", 2),
}
"""Standard operators that compute the same as the contributed operators."""
