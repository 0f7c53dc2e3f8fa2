"""Lowering of models for a target: only supported operators, and the same results."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from lowering import WINDOWS, evaluate, lowered, model, run, unary
from onnx import parser

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.rewrite.lower.problems import problems


def test_supported_model_is_unchanged():
    proto = unary("Swish", opset=24)
    after, changes = lowered(proto, "onnxruntime-1.32")
    assert changes == []
    assert after.graph == ir.to_proto(ir.from_proto(proto)).graph


NESTED = """
g (float[n, 4] x, bool flag, int64 trips) => (float[n, 4] y, float[n, 4] z)
{
  y = If (flag) <
    then_branch = then () => (float[n, 4] t) { t = Swish <alpha = 2.0> (x) },
    else_branch = other () => (float[n, 4] e) { e = Own.Gate (x) }
  >
  z = Loop (trips, flag, x) <
    body = body (int64 i, bool go, float[n, 4] state) => (bool again, float[n, 4] next)
    { again = Identity (go) s = Swish (state) next = Own.Gate (s) }
  >
}
<domain: "Own", opset_import: ["" : 28]> Gate (a) => (b) { s = Swish (a) b = Mul (s, a) }
"""


@pytest.mark.parametrize("target", ["onnxruntime-1.31", "onnxruntime-1.32", "tvm"])
def test_bodies_and_functions_are_lowered(target):
    proto = model(NESTED, 28, imports=', "Own" : 1')
    after, changes = lowered(proto, target)
    assert not after.functions
    assert {"": 1}.keys() == {opset.domain for opset in after.opset_import}
    assert {c.scope for c in changes} >= {"If_0/then_branch", "If_0/else_branch", "Loop_1/body"}
    for flag in (True, False):
        inputs = (WINDOWS, np.array(flag), np.array(2))
        for got, want in zip(run(after, *inputs), evaluate(proto, *inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_quantization_annotation_stays():
    proto = model("g (float[n] x) => (float[n] w) <float s = {0.5}> {y = Swish (x) w = Exp (y)}")
    annotation = proto.graph.quantization_annotation.add(tensor_name="y")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    after, changes = lowered(proto, "onnxruntime-1.31")
    assert "swish" in {change.kind for change in changes}
    assert list(after.graph.quantization_annotation) == [annotation]


def test_names_and_metadata_stay():
    proto = unary("Swish")
    node = proto.graph.node[0]
    node.name = "act"
    node.metadata_props.add(key="layer", value="7")
    node.doc_string = "the gate"
    proto.metadata_props.add(key="author", value="me")
    proto.graph.doc_string = "kept"
    after, _ = lowered(proto, "onnxruntime")
    assert {n.name.partition("/")[0] for n in after.graph.node} == {"act"}
    assert len({n.name for n in after.graph.node}) == len(after.graph.node)
    assert [(p.key, p.value) for n in after.graph.node for p in n.metadata_props] == [
        ("layer", "7")
    ] * len(after.graph.node)
    assert {n.doc_string for n in after.graph.node} == {"the gate"}
    assert (after.metadata_props, after.graph.doc_string) == (proto.metadata_props, "kept")
    assert after.graph.output == proto.graph.output


def test_constants_are_initializers_with_raw_data():
    after, _ = lowered(unary("Swish <alpha = 2.0>", "float16"), "onnxruntime")
    (alpha,) = after.graph.initializer
    assert alpha.data_type == onnx.TensorProto.FLOAT
    assert alpha.raw_data == np.float32(2).tobytes()


def test_unknown_element_type_is_an_error():
    text = (
        "g (float[n] x) => (float[n] y) "
        "{ h = Foreign.Thing (x) s = Swish (h) y = Foreign.Thing (s) }"
    )
    proto = model(text, 28, imports=', "Foreign" : 1')
    with pytest.raises(TargetError, match=r"Swish .*element type.*not known"):
        lower(ir.from_proto(proto), targets.find("onnxruntime"))


def test_unsupported_node_is_named():
    with pytest.raises(TargetError, match=r"Hardmax at opset 20 in float64"):
        lower(ir.from_proto(unary("Hardmax", "double", opset=20)), targets.find("onnxruntime"))
    text = "g (float[n] x) => (float[n] y) { y = ai.gatewave.Sinc (x) }"
    proto = model(text, 17, imports=', "ai.gatewave" : 1')
    with pytest.raises(TargetError, match=r"Where"):
        lower(ir.from_proto(proto), targets.find("ncnn"))


def test_operators_of_unknown_domains_stay():
    text = "g (float[n] x) => (float[n] y) { y = Foreign.Thing (x) }"
    proto = model(text, 20, imports=', "Foreign" : 1')
    known = ir.from_proto(proto)
    for name in ("onnxruntime", "iree"):
        assert lower(known, targets.find(name)).changes == []
        (problem,) = problems(known, targets.find(name))
        assert (problem.node, problem.operator, problem.known) == ("y", "Foreign::Thing", False)
        assert "it is not known whether" in problem.why
    functions = """g (float[n] x) => (float[n] y) { y = Foreign.Thing (x) }
        <domain: "Foreign", opset_import: ["" : 20]> Thing (a) => (b) { b = Relu (a) }"""
    holding = functions.replace("Relu (a)", "Other.Thing (a)").replace(
        '["" : 20]', '["" : 20, "Other" : 1]'
    )
    kept = ir.from_proto(model(holding, 20, imports=', "Foreign" : 1'))
    assert lower(kept, targets.find("onnxruntime")).changes == []
    own = ir.from_proto(model(functions, 20, imports=', "Foreign" : 1'))
    assert problems(own, targets.find("onnxruntime")) == []


def test_tried_contributed_operators_are_known_to_run():
    text = "g (float[2, 4] x) => (float[2, 4] y) { y = com.microsoft.Inverse (x) }"
    proto = ir.from_proto(model(text, 20, imports=', "com.microsoft" : 1'))
    assert problems(proto, targets.find("onnxruntime")) == []
    for name in ("onnxruntime-web", "openvino"):
        assert [p.known for p in problems(proto, targets.find(name))] == [False]


def test_model_without_standard_opset_gets_one():
    text = "<ir_version: 8, opset_import: ['ai.gatewave' : 1]> g (float[n] x) => (float[n] y) "
    proto = parser.parse_model(text.replace("'", '"') + "{ y = ai.gatewave.Sigmoid (x) }")
    after, _ = lowered(proto, "onnxruntime")
    assert [(o.domain, o.version) for o in after.opset_import] == [("", 17)]
    np.testing.assert_allclose(run(after, WINDOWS.ravel())[0][3], 0.5)
