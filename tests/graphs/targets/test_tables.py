"""Probed tables: operators that ONNX Runtime loads, and untried ones, which are unknown."""

from itertools import islice

import onnxruntime as ort
import pytest

from gatewave.graphs import targets
from gatewave.graphs.targets import nodes, probing, tables
from gatewave.graphs.targets.fates import fate_of
from gatewave.graphs.targets.probe_client import ProbeClient
from gatewave.graphs.targets.signatures import standard
from gatewave.graphs.targets.verdicts import NodeQuery

VERSIONS = targets.runtimes()["onnxruntime"].versions
INSTALLED = ".".join(ort.__version__.split(".")[:2])


def verdict(target, operator, opset, *inputs, dtype="float64", **more):
    domain, _, name = operator.rpartition("::")
    return (
        targets.find(target).verdict(NodeQuery((domain, name), opset, dtype, inputs, **more)).state
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_a_table(version):
    table = tables.of("onnxruntime", version)
    assert table.exact.startswith(f"{version}.")
    newest = targets.find(f"onnxruntime-{version}").opsets.most[0]
    for opset in (7, 13, 17, newest):
        assert table.fate(("", "Add"), opset, ["float", "float"]) == "loads"
        assert table.fate(("", "Elu"), opset, ["double"]) == "refused"


def test_table_answers_for_unlisted_operators():
    assert verdict("onnxruntime-1.24", "Selu", 17, "double") == "refused"
    assert verdict("onnxruntime-1.24", "Selu", 18, "double") == "runs"
    assert verdict("onnxruntime-1.24", "Sqrt", 17, "double") == "runs"
    assert verdict("onnxruntime-1.24", "com.microsoft::BiasGelu", 1, *["double"] * 2) == "refused"
    assert verdict("onnxruntime-1.24", "com.microsoft::BiasGelu", 1, *["float"] * 2) == "runs"


def test_integers_and_others_are_element_types_too():
    assert verdict("onnxruntime-1.32", "Relu", 17, "int16", dtype="int16") == "refused"
    assert verdict("onnxruntime-1.32", "Relu", 17, "int32", dtype="int32") == "runs"
    assert verdict("onnxruntime-1.32", "Not", 17, "bool", dtype="bool") == "runs"
    cast = {"stated": "float8e4m3fn", "dtype": "float32"}
    assert verdict("onnxruntime-1.32", "Cast", 19, "float", **cast) == "runs"
    assert verdict("onnxruntime-1.32", "Cast", 19, "complex64", **cast) != "runs"


@pytest.mark.parametrize("target", ["onnxruntime-1.32", "openvino", "tract", "onnxruntime-web"])
def test_what_nobody_tried_is_not_known(target):
    assert verdict(target, "NoSuchOperator", 17, "float", dtype="float32") == "unknown"
    assert verdict(target, "com.example::Thing", 1, "float", dtype="float32") == "unknown"


def test_tried_operators_of_other_targets_are_known():
    assert verdict("tvm", "Sin", 17, "float", dtype="float32") == "runs"
    assert verdict("tvm", "Sin", 19, "float", dtype="float32") == "unknown"
    assert verdict("tvm", "Conv", 17, "float", "float", dtype="float32") == "unknown"
    assert verdict("tvm", "Sin", 17, "int32", dtype="int32") == "unknown"
    assert verdict("tvm", "Swish", 24, "float", dtype="float32") == "refused"


def test_an_unknown_type_is_answered_if_all_agree():
    table = tables.of("onnxruntime", INSTALLED)
    assert table.fate(("", "Gather"), 17, ["float", "?"]) == "loads"
    assert table.fate(("", "Elu"), 17, ["?"]) is None


def test_limits_left_out_make_another_operator():
    table = tables.of("onnxruntime", "1.32")
    assert table.fate(("", "Clip"), 13, ["bfloat16"]) == "loads"
    assert table.fate(("", "Clip"), 13, ["bfloat16"] * 3) == "refused"


def test_kernel_selecting_attributes_have_own_rows():
    table = tables.of("onnxruntime", "1.32")
    assert table.fate(("", "Gelu"), 20, ["double"]) == "refused"
    tanh = {"approximate": "tanh"}
    assert table.fate(("", "Gelu"), 20, ["double"], attributes=tanh) == "loads"


def test_products_hold_what_was_packed():
    signatures = {("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x")}
    packed = tables.packed(signatures)
    assert packed == ["a b|x y", "c|x"]
    assert {*tables.unpacked(packed)} == signatures
    assert {*tables.unpacked(tables.packed({()}))} == {()}
    assert {*tables.unpacked(tables.packed(set()))} == set()


def test_table_agrees_with_the_installed_version():
    table = tables.of("onnxruntime", INSTALLED)
    if table is None or table.exact != ort.__version__:
        pytest.skip(f"there is no table of {ort.__version__}")
    trials = probing.trials({}, (9, 17, 20))
    tried = 0
    with ProbeClient() as client:
        for trial in islice(trials, 0, None, 29):
            op_type = trial.name.partition("[")[0].rpartition("::")[2]
            fate = fate_of(client.refusal(trial.content, probing.CPU), op_type)
            rows = table.rows(trial.name) or table.rows(trial.name.removesuffix(tables.ALL_INPUTS))
            (row,) = (row for row in rows if trial.opset in row.opsets)
            said = {"loads": row.loads, "refused": row.refused}
            if fate is not None:
                assert trial.signature in said[fate], (trial.name, trial.opset, trial.signature)
                tried += 1
    assert tried > 100


def test_one_model_for_each_type_combination():
    schema = standard("Where", 17)
    made = [trial.signature for trial in nodes.trials(("", "Where"), schema, 17, {"": 17})]
    assert ("bool", "float") in made
    assert len(made) == len({*made}) == len(schema.variables["T"])
