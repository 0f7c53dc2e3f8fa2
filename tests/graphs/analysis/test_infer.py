"""Inference of shapes and types: as complete as possible, and without changes to the model."""

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from gatewave.graphs.analysis.infer import inferred
from gatewave.graphs.analysis.scopes import scopes
from gatewave.graphs.files.files import read, write

MODEL = """
<ir_version: 10, opset_import: ["": 20, "f": 1, "com.microsoft": 1, "ai.gatewave": 1]>
main (float[n, 4] x, bool c) => (float[m, 4] y, float[2, 3] two)
<float[4] w = {1, 2, 3, 4}, int64[2] s = {-1, 8}, float[2, 3] u = {1, 2, 3, 4, 5, 6}>
{
    a = Add(x, w)
    q = com.microsoft.QuickGelu <alpha = 1.7> (a)
    g = ai.gatewave.Sinc(q)
    r = Reshape(g, s)
    k = f.F <alpha: float = 1.5> (a)
    two = f.F <alpha: float = 1.5> (u)
    y = If (c) <
        then_branch = t () => (float[o, 4] b) { z = Neg(k) b = Relu(z) },
        else_branch = e () => (float[o, 4] d) { v = unknown.Op(k) d = Abs(k) }
    >
}
<domain: "f", opset_import: ["": 20, "f": 1]>
F <alpha, beta: float = 0.5> (p) => (q) { r = f.G(p) q = Elu <alpha: float = @alpha> (r) }
<domain: "f", opset_import: ["": 20]>
G (p) => (q) { h = Constant <value = float {0.5}> () q = Mul(p, h) }
"""


def values(model, name):
    """Return the values of one scope by name."""
    (scope,) = [scope for scope in scopes(model) if scope.name == name]
    return {value.name: value for node in scope.graph for value in node.outputs}


def shape(value):
    return None if value.shape is None else [getattr(dim, "value", dim) for dim in value.shape]


@pytest.fixture
def told(saved):
    """Return a function that reads a model and infers its shapes and types."""

    def tell(model):
        made = read(saved(model))
        inferred(made)
        return made

    return tell


def test_shapes_pass_through_contributed_operators_and_our_own(told):
    main = values(told(MODEL), "")
    for name in "aqg":
        assert main[name].dtype == ir.DataType.FLOAT
        assert shape(main[name]) == ["n", 4]


def test_equal_dimensions_share_a_generated_name(told):
    model = told(MODEL.replace("k = f.F", "i = Relu(r) k = f.F"))
    main = values(model, "")
    assert shape(main["r"])[1] == 8
    assert shape(main["r"])[0].startswith("unk__")
    assert shape(main["i"]) == shape(main["r"])


def test_unknown_operator_stops_inference_after_it_only(told):
    model = told(MODEL)
    assert shape(values(model, "If_6/then_branch")["z"]) == ["n", 4]
    assert values(model, "If_6/else_branch")["v"].shape is None


def test_missing_import_does_not_stop_inference(told):
    text = """<ir_version: 10, opset_import: ["": 20]>
    main (float[n] x) => (float[m] y) { v = unknown.Op(x) a = Relu(x) y = Neg(a) }"""
    assert shape(values(told(text), "")["a"]) == ["n"]


def test_a_function_has_what_its_calls_agree_on(told):
    model = told(MODEL)
    for name, value in (("function f::F", "r"), ("function f::G", "q")):
        found = values(model, name)[value]
        assert found.dtype == ir.DataType.FLOAT
        assert shape(found) == [None, None]
    model = told(MODEL.replace("<alpha: float = 1.5> (u)", "<alpha: float = 1.5> (a)"))
    assert shape(values(model, "function f::G")["q"]) == ["n", 4]


def test_differing_attributes_leave_types_unknown(told):
    text = """
    <ir_version: 10, opset_import: ["": 20, "f": 1]>
    main (float[2, 3] x) => (float[a, b] y, float[c, d] z)
    { y = f.F <to = 1, perm = [0, 1]> (x) z = f.F <to = 1, perm = [1, 0]> (x) }
    <domain: "f", opset_import: ["": 20]>
    F <to, perm> (p) => (q) {
        c = Cast <to: int = @to> (p) t = Transpose <perm: ints = @perm> (c) q = Relu(t) }
    """
    found = values(told(text), "function f::F")
    assert (found["c"].dtype, shape(found["c"])) == (ir.DataType.FLOAT, [2, 3])
    assert found["t"].shape is None
    assert found["q"].shape is None
    text = text.replace("perm = [1, 0]", "perm = [0, 1]")
    assert shape(values(told(text), "function f::F")["q"]) == [2, 3]


def test_calls_differ_in_type_rank_and_knowledge(told):
    text = """
    <ir_version: 10, opset_import: ["": 20, "f": 1]>
    main (float[2, 3] x, double[3] d) => (float[2, 3] y, double[3] z, float[3] u)
    { y = f.F(x, x, x) z = f.F(d, x) v = unknown.Op(x) u = f.F(x, x, v) }
    <domain: "f", opset_import: ["": 20]>
    F (p, q, r) => (s) { s = Relu(p) t = Relu(q) v = Identity(r) }
    """
    found = values(told(text), "function f::F")
    assert [found[name].dtype for name in "stv"] == [None, ir.DataType.FLOAT, None]
    assert [shape(found[name]) for name in "stv"] == [None, [2, 3], None]
    found = values(told(text.replace("double[3]", "float[3]")), "function f::F")
    assert (found["s"].dtype, shape(found["s"])) == (ir.DataType.FLOAT, None)


def test_attributes_handed_on_are_unknown(told):
    text = """
    <ir_version: 10, opset_import: ["": 20, "f": 1]>
    main (float[2, 3] x) => (float[a, b] y) { y = f.F <perm = [0, 1]> (x) }
    <domain: "f", opset_import: ["": 20, "f": 1]>
    F <perm> (p) => (q) { q = f.G <perm: ints = @perm> (p) }
    <domain: "f", opset_import: ["": 20]>
    G <perm> (p) => (q) { i = Relu(p) q = Transpose <perm: ints = @perm> (i) }
    """
    found = values(told(text), "function f::G")
    assert shape(found["i"]) == [2, 3]
    assert found["q"].shape is None


def test_generated_dimensions_stay_out_of_functions(told):
    text = """
    <ir_version: 10, opset_import: ["": 20, "f": 1]>
    main (float[n] x) => (float[m] y) { y = f.F(x) }
    <domain: "f", opset_import: ["": 20]>
    F (p) => (q) { t = Unique(p) q = Relu(t) }
    """
    assert shape(values(told(text), "function f::F")["q"]) == [None]


def test_stated_types_and_shapes_stay(told):
    main = values(told(MODEL.replace("{\n    a = Add", "\n{\n    a = Add", 1)), "")
    assert shape(main["y"]) == ["m", 4]
    model = told(MODEL.replace("u = {1, 2, 3, 4, 5, 6}>", "u = {1, 2, 3, 4, 5, 6}, float[k, ?] a>"))
    assert shape(values(model, "")["a"]) == ["k", 4]


def test_large_tensors_are_not_read(saved, outside, tmp_path):
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(2**33)
    model = read(saved(outside(dims=[2**31], location="w.bin")))
    before = model.graph.initializers["w"].const_value
    inferred(model)
    assert model.graph.initializers["w"].const_value is before
    assert before.raw is None
    assert shape(model.graph.outputs[0]) == ["n"]


def test_a_shape_in_a_data_file_is_read(saved, tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n, 4] x) => (float[a, b] z) '
        "<int64[2] s = {2, -1}> { y = Reshape(x, s) z = Relu(y) }"
    )
    (tmp_path / "s.bin").write_bytes(np.array([2, -1], np.int64).tobytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("int64_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="s.bin")
    made = read(saved(model))
    inferred(made)
    assert shape(values(made, "")["y"])[0] == 2


ODD = {
    "shapes that contradict": "g (float[2] x) => (float[3] y) { a = Relu(x) y = Neg(a) }",
    "ranks that contradict": "g (float[2, 2] x) => (float[3] y) { a = Relu(x) y = Neg(a) }",
    "types that contradict": "g (float[2] x) => (int64[2] y) { a = Relu(x) y = Neg(a) }",
    "an axis that is not there": "g (float[2] x) => (float[2] y) { y = Softmax <axis = 7> (x) }",
    "an operator with too few inputs": "g (float[2] x) => (float[2] y) { y = Add(x) }",
    "too many outputs": "g (float[2] x) => (float[2] y) { y, z = Relu(x) }",
    "no such operator": "g (float[2] x) => (float[2] y) { y = Tomorrow(x) }",
    "sizes without end": "g (float[9223372036854775807, 9223372036854775807] x) => (float[n] y) "
    "{ y = Flatten(x) }",
}


@pytest.mark.parametrize("case", ODD)
def test_odd_models_are_no_reason_to_fail(told, tmp_path, case):
    model = told('<ir_version: 10, opset_import: ["": 20]> ' + ODD[case])
    write(model, tmp_path / "out.onnx", source=None)


VAST = {
    "one number that becomes a length": "s = Constant <value = int64[1] {1099511627776}> () "
    "r = ConstantOfShape(s) c = Cast <to = 1> (r)",
    "a product of small numbers": "s = Constant <value = int64[1] {1048576}> () t = Mul(s, s) "
    "r = ConstantOfShape(t) c = Cast <to = 1> (r)",
    "a length that doubles forty times": "c0 = Constant <value = int64[1] {3}> () "
    + " ".join(f"c{i + 1} = Concat <axis = 0> (c{i}, c{i})" for i in range(40)),
}


TAKEN = """
import resource, sys
import onnx
from gatewave.graphs.files.files import read
from gatewave.graphs.analysis.infer import inferred
model = read(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
inferred(model)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
inferred(read(sys.argv[2]))  # the process that was ended is waited for
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


TAKEN = """
    import resource, sys
    from pathlib import Path
    from gatewave.graphs.files.files import read
    from gatewave.graphs.analysis.inference_client import INFERENCE
    from gatewave.graphs.analysis.infer import inferred
    model = read(Path(sys.argv[1]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inferred(model)
    INFERENCE.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

VAST_MODELS = {
    case: '<ir_version: 10, opset_import: ["": 20]> g (float[n] x) => (float[n] y) '
    "{ " + body + " a = Relu(x) y = Neg(a) }"
    for case, body in VAST.items()
}


@pytest.mark.parametrize("case", VAST_MODELS)
def test_small_models_cannot_take_all_memory(saved, case):
    command = [sys.executable, "-c", textwrap.dedent(TAKEN), saved(VAST_MODELS[case])]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    own, others = ran.stdout.split()
    assert int(own) < 100_000  # KiB
    assert int(others) < 1_500_000


@pytest.mark.parametrize("case", VAST_MODELS)
def test_inference_recovers_after_a_vast_model(told, case):
    assert shape(values(told(VAST_MODELS[case]), "")["a"]) == ["n"]
    followed = """<ir_version: 10, opset_import: ["": 20]> g (float[2, 3] x) => (float[m] y)
        { s = Shape(x) r = ConstantOfShape(s) a = Add(x, r) y = Flatten(a) }"""
    assert shape(values(told(followed), "")["r"]) == [2, 3]


def test_maps_and_sparse_tensors_are_accepted(sparse, saved, tmp_path):
    sparse.opset_import.add(domain="ai.onnx.ml", version=3)
    node = sparse.graph.node.add(op_type="ZipMap", domain="ai.onnx.ml", input=["y"], output=["m"])
    node.attribute.add(name="classlabels_int64s", type=onnx.AttributeProto.INTS, ints=[0, 1])
    sparse.graph.output.add(name="m").type.sequence_type.elem_type.map_type.key_type = 7
    source = saved(sparse)
    model = read(source)
    inferred(model)
    write(model, tmp_path / "out.onnx", source=source)
    written = onnx.load(tmp_path / "out.onnx")
    assert written.graph.output == sparse.graph.output
    assert written.graph.sparse_initializer == sparse.graph.sparse_initializer
