"""Files of the targets: valid content, evidence for each entry, and lookup of names."""

import pytest

from gatewave.graphs import targets
from gatewave.graphs.errors import TargetError
from gatewave.graphs.targets.entries import TargetFile
from gatewave.graphs.targets.ranges import VersionRange

RUNTIMES = targets.runtimes()

LEAST = """
name: tiny
title: Tiny
versions: ["1.9", "1.10"]
opsets: [{opsets: 17..20, evidence: seen}]
functions: [{run: false, evidence: seen}]
types: [{dtypes: [float32], evidence: seen}]
evidence: {seen: It was run.}
"""


@pytest.mark.parametrize("name", RUNTIMES)
def test_all_evidence_belongs_to_entries(name):
    runtime = RUNTIMES[name]
    assert {entry.evidence for entry in runtime.entries()} == {*runtime.evidence}


@pytest.mark.parametrize("name", targets.names())
def test_every_target_reads_some_opset(name):
    target = targets.find(name)
    assert targets.find(target.name) == target
    assert target.opsets.nearest(20) in target.opsets


def test_the_issues_runtimes_are_all_there():
    assert {*RUNTIMES} == {
        "iree",
        "jaxonnxruntime",
        "litert",
        "ncnn",
        "onnx2torch",
        "onnxruntime",
        "onnxruntime-web",
        "openvino",
        "tensorflow",
        "tract",
        "tvm",
    }


def test_short_name_means_newest_and_first_provider():
    newest = RUNTIMES["onnxruntime"].versions[-1]
    assert targets.find("onnxruntime") == targets.find(f"onnxruntime-{newest}-cpu")
    assert targets.find("onnxruntime-1.31").name == "onnxruntime-1.31-cpu"
    assert targets.find("onnxruntime-cuda").name == f"onnxruntime-{newest}-cuda"


def test_unknown_target_suggests_similar_names():
    with pytest.raises(TargetError, match=r"did you mean onnxruntime-1\.31"):
        targets.find("onxruntime-1.31")
    with pytest.raises(TargetError, match=r"unknown target 'caffe'\. Known.*openvino \("):
        targets.find("caffe")


def test_versions_are_compared_as_numbers():
    newer = LEAST.replace("17..20, ", "17..20, versions: '..1.9', ").replace(
        "opsets: [", "opsets: [{opsets: 18, versions: '1.10..', evidence: seen}, "
    )
    (first, second) = targets.parse(newer, "tiny.yaml").opsets
    assert first.opsets == VersionRange((18,), (18,))
    assert second.holds((1, 9), None)
    assert not second.holds((1, 10), None)


WRONG = {
    "unknown key": ("title: Tiny", "title: Tiny\nspeed: fast", "speed"),
    "no evidence": (
        "20, evidence: seen}]",
        "20, evidence: heard}]",
        "there is no evidence 'heard'",
    ),
    "idle evidence": ("run.}", "run., told: Said.}", "no entry rests on the evidence 'told'"),
    "gap": ("17..20, ", "17..20, versions: '1.10', ", "opsets: 0 entries for version 1.9"),
    "overlap": ("[{run", "[{run: true, evidence: seen}, {run", "2 entries for version 1.9"),
    "number": ("17..20", "17.5", "write the range in quotes"),
    "no range": ("17..20", "new", "expected a range"),
    "empty": ("17..20", "20..17", "ends before it begins"),
    "provider": ("20, evidence", "20, provider: gpu, evidence", "unknown providers"),
    "dtype": ("[float32]", "[float12]", "float12"),
    "yaml": ("title: Tiny", "title: [", "while parsing"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_target_file_with_wrong_keys_is_refused(wrong):
    was, becomes, told = WRONG[wrong]
    assert was in LEAST
    with pytest.raises(TargetError, match=r"tiny\.yaml") as error:
        targets.parse(LEAST.replace(was, becomes), "tiny.yaml")
    assert told in str(error.value)


def test_the_least_file_passes():
    assert isinstance(targets.parse(LEAST, "tiny.yaml"), TargetFile)


def test_an_operator_runs_where_an_entry_says_so():
    target = targets.find("onnxruntime-1.32")
    assert target.runs(("", "Swish"), 24, "float32")
    assert not target.runs(("", "Swish"), 25, "float32")
    assert not target.runs(("", "Sigmoid"), 17, "bfloat16")
    assert target.runs(("", "Gelu"), 20, "float64", {"approximate": "tanh"})
    assert not target.runs(("", "Gelu"), 20, "float64")
    assert not targets.find("onnxruntime-1.20").runs(("", "Swish"), 24, "float32")
    assert not target.runs(("com.example", "Anything"), 1, "float32")
    assert target.runs(("com.microsoft", "Anything"), 1, "float32")
    assert not targets.find("iree").runs(("com.microsoft", "Anything"), 1, "float32")
