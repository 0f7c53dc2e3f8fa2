"""Nodes computed in float32 between casts, for targets that lack bfloat16."""

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from lowering import WINDOWS, lowered, model, op_types, run

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.lower import lower

BFLOAT16 = """
g (bfloat16[n, 4] x) => (bfloat16[n, 4] y, bfloat16[n, 4] s)
{ s = Sigmoid (x)  p = Mul (x, s)  y = Transpose <perm = [0, 1]> (p) }
"""


def test_operators_without_bfloat16_are_bridged_by_casts():
    after, changes = lowered(model(BFLOAT16, opset=22), "onnxruntime")
    assert [c.what for c in changes] == [
        f"{op} in float32, cast from bfloat16 to float32 and back" for op in ("Sigmoid", "Mul")
    ]
    assert op_types(after)[-1] == "Transpose"
    assert "Transpose" not in {c.what.split()[0] for c in changes}
    inputs = WINDOWS / 4  # ONNX Runtime's Sigmoid is 0 far out
    x = torch.from_numpy(inputs).bfloat16()
    gate = torch.sigmoid(x.float()).bfloat16()
    (y,) = run(between_float32(after), inputs)
    assert torch.equal(torch.from_numpy(y), (x.float() * gate.float()).bfloat16().float())


SECOND = {
    "indices": ("int64", "k = Constant <value = int64[1] {2}> () v, o = TopK (x, k)"),
    "a mask": ("bool", "v, o = Dropout (x)"),
    "only the second": (
        "int64",
        "k = Constant <value = int64[1] {2}> () u, o = TopK (x, k) v = Abs (x)",
    ),
}


@pytest.mark.parametrize("what", SECOND)
def test_bridged_operator_keeps_its_other_outputs(what):
    kind, nodes = SECOND[what]
    text = f"g (bfloat16[n, 4] x) => (bfloat16[n, m] v, {kind}[n, m] o) {{ {nodes} }}"
    after, changes = lowered(model(text, opset=22), "onnxruntime")
    assert all(
        c.what.endswith("in float32, cast from bfloat16 to float32 and back") for c in changes
    )
    casts = [node.output[0] for node in after.graph.node if node.op_type == "Cast"]
    assert "v" in casts
    assert "o" not in casts


QUANTISED = "q = QuantizeLinear (x, s) y = DequantizeLinear (q, s)"


@pytest.mark.parametrize(
    "nodes", [QUANTISED, "r = Constant <value = int64[2] {1, 2}> () y = Tile (x, r)"]
)
def test_moving_operators_refused_in_bfloat16_are_bridged(nodes):
    text = f"g (bfloat16[2, 4] x, bfloat16 s) => (bfloat16[n, m] y) {{ {nodes} }}"
    after, changes = lowered(model(text, opset=22), "onnxruntime")
    assert all("in float32, cast from bfloat16" in change.what for change in changes)
    ort.InferenceSession(after.SerializeToString())


def test_sequences_are_not_cast():
    text = (
        "g (bfloat16[4] x) => (bfloat16[8] y) "
        "{ s = SequenceConstruct (x, x) y = ConcatFromSequence <axis = 0> (s) }"
    )
    with pytest.raises(
        TargetError, match=r"does not run SequenceConstruct at opset 22 in bfloat16"
    ):
        lower(ir.from_proto(model(text, opset=22)), targets.find("onnxruntime"))


def between_float32(proto):
    """Return the model with float32 ports and its first output only: NumPy has no bfloat16."""
    graph = ir.from_proto(proto).graph
    (x,), y = graph.inputs, graph.outputs[0]
    wide = ir.Value(name="wide", type=ir.TensorType(ir.DataType.FLOAT), shape=x.shape)
    narrow = ir.node("Cast", [wide], attributes={"to": ir.DataType.BFLOAT16.value})
    x.replace_all_uses_with(narrow.outputs[0])
    last = ir.node("Cast", [y], attributes={"to": 1})
    last.outputs[0].name, last.outputs[0].type, last.outputs[0].shape = "out", wide.type, y.shape
    graph.insert_before(graph[0], narrow)
    graph.append(last)
    graph.inputs[0] = wide
    graph.outputs.clear()
    graph.outputs.append(last.outputs[0])
    return ir.to_proto(ir.Model(graph, ir_version=10))


def test_bridged_contributed_operator_keeps_its_domain():
    text = (
        "g (bfloat16[n, 4] x) => (bfloat16[n, 4] y) "
        "{ y = com.microsoft.QuickGelu <alpha = 0.5> (x) }"
    )
    after, (change,) = lowered(model(text, 17, imports=', "com.microsoft" : 1'), "onnxruntime")
    assert change.what.startswith("QuickGelu in float32")
    (drawn,) = (node for node in after.graph.node if node.op_type != "Cast")
    assert (drawn.domain, drawn.attribute[0].f) == ("com.microsoft", 0.5)
