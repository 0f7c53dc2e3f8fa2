"""Lowered models in old and new versions of ONNX Runtime, as the files of the targets state."""

import node_cases
import numpy as np
import onnx_ir as ir
import pytest
from environments import VERSIONS, python_of
from onnx import parser
from probing import disagreements

from gatewave.graphs import targets
from gatewave.graphs.processes.errors import Refused
from gatewave.graphs.rewrite.lower.lower import lower
from gatewave.graphs.targets import probe
from gatewave.graphs.targets.probe_client import ProbeClient
from gatewave.graphs.targets.probed_target import target_of

pytestmark = pytest.mark.matrix

CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def target(version):
    return targets.find("onnxruntime-" + ".".join(version.split(".")[:2]))


@pytest.fixture(scope="module")
def client(version):
    with ProbeClient(python_of(version)) as client:
        assert client.about["version"] == version
        yield client


def test_a_file_says_what_probing_says(version, target):
    answer = probe.ask(python_of(version))
    assert list(disagreements(answer, target)) == []
    assert {d.defect for d in target_of(answer).defects} == {d.defect for d in target.defects}


@pytest.mark.parametrize("case", list(node_cases.cases()), ids=lambda case: case.name)
def test_the_node_tests_of_onnx_hold_once_lowered(client, target, case):
    for opset in case.opsets():
        model = ir.from_proto(case.stamped(opset))
        lower(model, target)
        got = client.run(ir.to_proto(model).SerializeToString(), CPU, *case.inputs)
        assert got.shape == case.outputs[0].shape
        node_cases.assert_close(case, [got.astype(case.outputs[0].dtype)])


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_a_float64_silu_runs_once_lowered(client, target, alpha):
    model = ir.from_proto(
        parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g (double[n] x) => (double[n] y) <double a = {{{alpha}}}> {{
            u = Mul (x, a) s = Sigmoid (u) y = Mul (s, x)
        }}
        """)
    )
    before = ir.to_proto(model).SerializeToString()
    changes = lower(model, target).changes
    x = np.linspace(-30, 30, 61)
    got = client.run(ir.to_proto(model).SerializeToString(), CPU, x)
    np.testing.assert_allclose(got, x / (1 + np.exp(-alpha * x)), atol=1e-14)
    # It is only lowered where it would not have run.
    assert bool(changes) == refuses(client, before, x)


def refuses(client, model, x):
    try:
        client.run(model, CPU, x)
    except Refused:
        return True
    return False
