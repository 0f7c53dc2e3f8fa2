"""Runners of compared models: choice of the runtime, rejected models, crashes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from verifications import HEAD

from gatewave.export import operators
from gatewave.graphs.errors import NotRunnableError
from gatewave.graphs.verify.verification_plan import VerificationPlan
from gatewave.graphs.verify.verifier import verify

LOOP = """agraph (int64 n, float[N] x) => (float[N] y) {
    yes = Constant<value = bool {1}>()
    y = Loop (n, yes, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t) {
        d = Identity(c) g = Sigmoid(s) t = Mul(s, g) }>
}"""


def test_what_only_the_rewritten_model_refuses_is_a_failure(check):
    text = "agraph (float[N] x) => (float[K] y) { y = Identity(x) }"
    narrow = """agraph (float[N] x) => (float[K] y) <int64[1] s = {2}> { y = Reshape(x, s) }"""
    report = check(text, narrow)
    assert not report.holds
    assert "it cannot be run on normal, N 1: " in report.summary()


def test_a_model_that_only_the_reference_runs_is_run_by_it(check):
    newest = '<ir_version: 14, opset_import: ["" : 28]>'
    swiglu = "agraph (float[N] a, float[N] b) => (float[N] y) { y = SwiGLU<alpha = 1.5>(a, b) }"
    lowered = """agraph (float[N] a, float[N] b) => (float[N] y) <float alpha = {%s}> {
        s = Mul(a, alpha) g = Sigmoid(s) h = Mul(a, g) y = Mul(h, b) }"""
    report = check(swiglu, lowered % "1.5", newest)
    assert report.holds, report.summary()
    assert [ran.runtime for ran in report.ran] == ["the onnx reference evaluator", "ONNX Runtime"]
    assert "NOT_IMPLEMENTED" in report.ran[0].why
    assert not check(swiglu, lowered % "1.49", newest).holds


def test_a_custom_operator_that_nothing_knows_is_named(check):
    head = '<ir_version: 8, opset_import: ["" : 17, "com.acme" : 1]>'
    text = "agraph (float[N] x) => (float[N] y) { y = com.acme.Secret(x) }"
    with pytest.raises(NotRunnableError, match=r"it uses com\.acme, .*reference"):
        check(text, text, head)


def test_a_model_that_hangs_is_ended(check):
    endless = LOOP.replace("int64 n, float", "float").replace("Loop (n, yes", "Loop ('', yes")
    endless = endless.replace("Loop ('', yes, x)", "Loop (n, yes, x)").replace(
        "yes = Const", "n = Constant<value = int64 {9000000000000000000}>() yes = Const"
    )
    quick = "agraph (float[N] x) => (float[N] y) { y = Identity(x) }"
    report = check(quick, endless, timeout=1.0)
    assert not report.holds
    assert "took more than 1 seconds (--timeout)" in report.summary()
    with pytest.raises(NotRunnableError, match="took more than 1 seconds"):
        check(endless, quick, timeout=1.0)


def test_a_model_that_crashes_ends_its_own_process_only(check):
    """ONNX Runtime divides the least integer by -1 in hardware: the trap ends the process."""
    careless = """agraph (int64[N] i) => (int64[N] k)
        <int64 least = {-9223372036854775808}, int64 one = {1}, int64 zero = {0},
        int64 minus = {-1}> {
        below = Less(i, zero) by = Where(below, minus, one) top = Where(below, least, least)
        k = Div(top, by) }"""
    careful = careless.replace("Div(top, by)", "Mul(top, by)")
    plan = {"budget": 3600.0}  # every case is run, on a busy machine too
    report = check(careless, careful, **plan)
    crashed = [one.name for one in report.dropped if "crashed the process, SIGFPE" in one.why]
    assert "large, N 32" in crashed
    assert report.cases[-1] == "normal, N 0"
    assert report.holds
    report = check(careful, careless, **plan)
    assert not report.holds
    assert report.failures[0].name == "large, N 32"
    assert "crashed the process, SIGFPE" in report.failures[0].why


def test_what_changes_from_run_to_run_is_left_out_and_said(check):
    text = """agraph (float[N] x) => (float[N] y, float[N] z) {
        y = RandomNormalLike(x) z = Neg(x) }"""
    report = check(text, text, '<ir_version: 4, opset_import: ["" : 8]>')
    assert report.holds
    assert [one.name for one in report.outputs] == ["z"]
    assert ("output y", "it changes from run to run") in {(d.name, d.why) for d in report.dropped}


def test_external_data_is_found_beside_each_model_inner_values_and_all(tmp_path):
    weights = np.linspace(-1, 1, 600, dtype=np.float32)
    for name, scale in (("one", 1), ("other", 1), ("off", 1.01)):
        nodes = [
            helper.make_node("Mul", ["x", "w"], ["s"]),
            helper.make_node("Sigmoid", ["s"], ["y"]),
        ]
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [600]) for n in "xy"]
        tensor = numpy_helper.from_array((weights * scale).astype(np.float32), "w")
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], [tensor])
        (tmp_path / name).mkdir()
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
            tmp_path / name / "model.onnx",
            save_as_external_data=True,
            location="weights.bin",
        )
    one, other, off = (tmp_path / name / "model.onnx" for name in ("one", "other", "off"))
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    report = verify(one, other, VerificationPlan(sites=["s"]))
    assert report.holds
    assert [site.name for site in report.sites] == ["s"]
    assert not verify(one, off).holds
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


LIBRARY = Path(__file__).parents[3] / "service" / "libgatewave.so"


@pytest.mark.skipif(not LIBRARY.exists(), reason="there is no compiler: no kernels")
def test_operators_of_ours_are_run_with_their_kernels_too(check, exported):
    ours = exported("swish")["value", "float32"]
    report = check(
        ir.to_proto(operators.decomposed(ours)), ir.to_proto(ours), kernels=LIBRARY, sites=["y"]
    )
    assert report.holds, report.summary()
    plain, native = report.outputs
    assert (plain.runtime, native.runtime) == ("ONNX Runtime", "ONNX Runtime with the kernels")
    assert plain.difference.absolute == 0
    assert 0 < native.difference.absolute < 1e-5
    bare = ir.to_proto(ours)
    bare.ClearField("functions")
    report = check(bare, bare, kernels=LIBRARY)
    assert report.holds
    assert {ran.runtime for ran in report.ran} == {"ONNX Runtime with the kernels"}
    with pytest.raises(NotRunnableError, match=r"it uses ai\.gatewave"):
        check(bare, bare)


def test_kernels_that_do_not_load_are_said_to(check, exported, tmp_path):
    (tmp_path / "kernels.so").write_bytes(b"no library")
    ours = ir.to_proto(exported("swish")["value", "float32"])
    report = check(ours, ours, kernels=tmp_path / "kernels.so")
    assert report.holds
    assert any(one.name == "the rewritten model with the kernels" for one in report.dropped)


def test_a_rewritten_model_that_nothing_runs_is_a_failure(check):
    text = "agraph (float[N] x) => (float[N] y) { y = Neg(x) }"
    custom = onnx.parser.parse_model(HEAD + text)
    custom.graph.node[0].domain = "com.acme"
    custom.opset_import.add(domain="com.acme", version=1)
    report = check(text, custom)
    assert not report.holds
    assert "com.acme" in report.summary()
