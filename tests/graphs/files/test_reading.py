"""Reading of model files: invalid files are rejected by name, unusual ones are read."""

import gc
import os
import time

import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto

from gatewave.graphs.errors import ModelError
from gatewave.graphs.files.files import read

HEADER = '<ir_version: 10, opset_import: ["": 20]>'
RELU = HEADER + " g (float[n] x) => (float[n] y) { y = Relu(x) }"


def refused(path):
    """Return the error message for the file ``path``, without the path."""
    with pytest.raises(ModelError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


def test_a_missing_file_is_named(tmp_path):
    assert "No such file" in refused(tmp_path / "no.onnx")


def test_a_folder_is_no_model(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_an_empty_file_is_no_model(saved):
    assert "is empty" in refused(saved(b""))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in refused(tmp_path / "pipe.onnx")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello, this is text", "no ONNX model"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"PK\x03\x04 and so on", "ZIP archive"),
        (b"<!doctype html>", "web page"),
        (b"\x08\x0a", "holds no graph"),
    ],
)
def test_other_formats_are_called_what_they_are(saved, content, said):
    assert said in refused(saved(content))


def test_a_file_over_protobufs_limit_is_refused_unread(tmp_path):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    assert "2,147,483,648 bytes" in refused(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_model_is_refused(saved, share):
    content = saved(RELU).read_bytes()
    refused(saved(content[: int(len(content) * share)]))


@pytest.mark.parametrize("version", [0, -1, onnx.IR_VERSION + 1, 2**40])
def test_ir_versions_of_no_known_meaning_are_refused(saved, version):
    model = onnx.parser.parse_model(RELU)
    model.ir_version = version
    assert f"has IR version {version}" in refused(saved(model))


def field(number, content):
    """Return a field of a message in wire format."""
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def bomb(depth):
    """Return nested graphs in attributes of nodes, deeper than protobuf itself would build them."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    return b"\x08\x0a" + field(7, graph)


def test_a_bomb_of_nested_graphs_is_refused(saved):
    assert "nests deeper" in refused(saved(bomb(5000)))


UNSOUND = {
    "a = Relu(b) b = Relu(a) y = Add(x, a)": "nodes take each other's results: node 0 (Relu)",
    "y = Add(x, y)": "nodes take each other's results",
    "y = Add(x, nowhere)": "node 0 (Add) of the graph: takes 'nowhere', which has no producer",
    "y = Relu(x) y = Neg(x)": "node 1 (Neg) of the graph: makes 'y', which is there already",
    "y, y = Split <num_outputs = 2> (x)": "makes 'y', which is there already",
    "x = Relu(x) y = Neg(x)": "makes 'x', which is there already",
    "z = Relu(x)": "its output 'y' has no producer",
    "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float[n] a) "
    "{ a = Add(x, y) }, else_branch = e () => (float[n] b) { b = Relu(x) }>": (
        "nodes take each other's results: node 1 (If)"
    ),
    "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float[n] a) "
    "{ a = Add(x, b) }, else_branch = e () => (float[n] b) { b = Relu(x) }>": (
        "takes 'b', which has no producer"
    ),
    "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float[n] x) "
    "{ a = Relu(x) }, else_branch = e () => (float[n] b) { b = Relu(x) }>": (
        "then_branch of node 1 (If) of the graph: its output 'x' has no producer inside it"
    ),
}


@pytest.mark.parametrize("nodes", UNSOUND)
def test_graphs_with_undefined_or_duplicate_names_are_refused(saved, nodes):
    graph = f"{HEADER} g (float[n] x) => (float[n] y) {{ {nodes} }}"
    assert UNSOUND[nodes] in refused(saved(graph))


def test_two_inputs_of_one_name_are_refused(saved):
    model = onnx.parser.parse_model(RELU)
    model.graph.input.append(model.graph.input[0])
    assert "input 'x' of the graph is there twice" in refused(saved(model))


def test_an_initializer_without_a_name_is_refused(saved, weighted):
    model = weighted(dims=[1], float_data=[1.0])
    model.graph.initializer.add(data_type=1, dims=[1], float_data=[1.0])
    assert "one initializer of the graph has no name" in refused(saved(model))


def test_operators_of_onnx_need_their_opset_imported(saved):
    model = onnx.parser.parse_model(RELU)
    del model.opset_import[:]
    assert "imports no opset of it" in refused(saved(model))


def test_a_node_names_its_operator(saved):
    model = onnx.parser.parse_model(RELU)
    model.graph.node[0].op_type = ""
    assert "has no op_type" in refused(saved(model))


def test_graph_as_function_default_is_refused(saved):
    text = FUNCTIONS.format(functions=function("F0", "b = Neg(a)"))
    model = onnx.parser.parse_model(text)
    default = model.functions[0].attribute_proto.add(name="body", type=AttributeProto.GRAPH)
    default.g.CopyFrom(model.graph)
    assert "function f::F0: attribute 'body' is a graph by default" in refused(saved(model))


@pytest.mark.parametrize("second", [0, 21])
def test_an_opset_has_one_version(saved, second):
    model = onnx.parser.parse_model(RELU)
    model.opset_import.add(domain="ai.onnx", version=second)
    assert f"imports opset {second} of 'ai.onnx'" in refused(saved(model))


def test_names_that_are_no_text_are_refused(saved):
    content = saved(RELU).read_bytes().replace(b"Relu", b"\xff\xfe\x00u")
    assert r"the op_type b'\xff\xfe\x00u'" in refused(saved(content))


def test_quoted_names_are_escaped_and_shortened(saved):
    model = onnx.parser.parse_model(RELU)
    model.graph.node[0].op_type = "\x1b[2J"
    model.graph.node[0].input[0] = "a" * 1_000_000
    said = refused(saved(model))
    assert r"node 0 (\x1b[2J)" in said
    assert len(said) < 1000


FUNCTIONS = (
    '<ir_version: 10, opset_import: ["": 20, "f": 1]> g (float[n] x) => (float[n] y) '
    "{{ y = f.F0(x) }} {functions}"
)


def function(name, body):
    imports = '<domain: "f", opset_import: ["": 20, "f": 1]>'
    return f"{imports} {name} (a) => (b) {{ {body} }}"


def test_cyclic_function_calls_are_refused(saved):
    chain = [function(f"F{i}", f"b = f.F{(i + 1) % 3}(a)") for i in range(3)]
    model = FUNCTIONS.format(functions=" ".join(chain))
    assert "in a circle: f::F" in refused(saved(model))


def test_exponentially_nested_functions_are_refused(saved):
    doubling = [function(f"F{i}", f"c = f.F{i + 1}(a) b = f.F{i + 1}(c)") for i in range(40)]
    model = FUNCTIONS.format(functions=" ".join([*doubling, function("F40", "b = Neg(a)")]))
    assert "1,000,000 nodes once its functions are inlined" in refused(saved(model))


def test_two_functions_of_one_name_are_refused(saved):
    twice = function("F0", "b = Neg(a)") + function("F0", "b = Abs(a)")
    assert "function 'f::F0' is there twice" in refused(saved(FUNCTIONS.format(functions=twice)))


UNUSUAL = {
    "a custom operator, and no opset of ONNX": (
        '<ir_version: 8, opset_import: ["com.acme": 3]> g (float[n] x) => (float[n] y) '
        "{ y = com.acme.Secret <level = 3> (x) }"
    ),
    "a custom operator whose domain is not imported": (
        HEADER + " g (float[n] x) => (float[n] y) { y = com.microsoft.QuickGelu(x) }"
    ),
    "an opset of the future": RELU.replace('"": 20', '"": 99'),
    "an operator that ONNX does not have": RELU.replace("Relu", "Tomorrow"),
    "nodes out of order": HEADER + " g (float[n] x) => (float[n] y) { y = Neg(a) a = Relu(x) }",
    "an input that is an output": HEADER + " g (float[n] x) => (float[n] x) { }",
    "optional inputs and outputs": (
        HEADER + " g (float[n] x) => (float[n] y) { y, = Dropout(x, , ) }"
    ),
    "an initializer that is an input": (
        '<ir_version: 3, opset_import: ["": 8]> g (float[2] x, float[2] w = {1.0, 2.0}) '
        "=> (float[2] y) { y = Add(x, w) }"
    ),
    "names used in both branches, and outside": (
        HEADER + " g (float[n] x, bool c) => (float[n] y) { y = If (c) "
        "<then_branch = t () => (float[n] y) { y = Relu(x) }, "
        "else_branch = e () => (float[n] y) { y = Neg(x) }> }"
    ),
    "a function, out of order too": FUNCTIONS.format(
        functions=function("F0", "b = Neg(c) c = Relu(a)")
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_is_only_unusual_is_read(saved, case):
    model = read(saved(UNUSUAL[case]))
    assert len(model.graph.outputs) == 1


def test_nodes_out_of_order_are_put_in_order(saved):
    model = read(saved(UNUSUAL["nodes out of order"]))
    assert [node.op_type for node in model.graph] == ["Relu", "Neg"]
    model = read(saved(UNUSUAL["a function, out of order too"]))
    assert [node.op_type for node in model.functions["f", "F0", ""]] == ["Relu", "Neg"]


def test_both_names_of_onnxs_own_domain_are_one(saved):
    model = onnx.parser.parse_model(RELU)
    model.opset_import[0].domain = model.graph.node[0].domain = "ai.onnx"
    assert read(saved(model)).opset_imports == {"": 20}


def test_untyped_old_attributes_keep_their_values(saved):
    model = onnx.parser.parse_model(RELU.replace("Relu", "Elu <alpha = 0.5>"))
    model.ir_version = 1
    del model.opset_import[:]
    model.graph.node[0].attribute[0].ClearField("type")
    node = read(saved(model)).graph.node(0)
    assert node.attributes["alpha"].type == ir.AttributeType.FLOAT
    assert node.attributes["alpha"].value == 0.5


def test_checks_take_time_in_proportion_to_the_model(saved):
    def seconds(count):
        path = saved(a_chain_of(count))
        return min(once(path) for _ in range(5))

    def once(path):
        # A garbage collection passes over all objects of the other tests, too.
        gc.disable()
        try:
            start = time.process_time()
            read(path)
            return time.process_time() - start
        finally:
            gc.enable()

    def a_chain_of(count):
        model = onnx.parser.parse_model(RELU)
        node = model.graph.node.pop()
        for index in range(count):
            last = index == count - 1
            new = model.graph.node.add(op_type=node.op_type)
            new.input.append(f"v{index - 1}" if index else "x")
            new.output.append("y" if last else f"v{index}")
        # The last comes first, so that the order must be found.
        model.graph.node.insert(0, model.graph.node.pop())
        return model

    # Eight times as long, or sixty-four times if it were quadratic. Both are measured up to three
    # times: another process may take the processor's caches and its speed.
    assert any(seconds(16_000) < 24 * seconds(2000) for _ in range(3))


def test_attribute_with_two_values_is_refused(saved):
    model = onnx.parser.parse_model(RELU)
    model.graph.node[0].attribute.add(name="alpha", f=1.0, i=1)
    assert "attribute 'alpha' has no type" in refused(saved(model))


@pytest.mark.parametrize("kind", ["TENSOR", "GRAPH", "SPARSE_TENSOR", "TYPE_PROTO"])
def test_an_attribute_holds_what_its_type_says(saved, kind):
    model = onnx.parser.parse_model(RELU)
    model.graph.node[0].attribute.add(name="empty", type=AttributeProto.AttributeType.Value(kind))
    assert f"attribute 'empty' should be a {kind}, and holds none" in refused(saved(model))
