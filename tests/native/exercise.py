"""Program for the sanitizers: every operator, rejected inputs, many threads, short sessions.

python exercise.py LIBRARY
"""

import concurrent.futures
import json
import sys

import numpy as np
import onnxruntime as ort
from native_models import model, numbers, operator_model, options
from onnx import TensorProto, helper

from gatewave.models.catalogue import OPERATORS

KINDS = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
}


def describe(library):
    node = helper.make_node("Kernels", [], ["text"], domain="ai.gatewave")
    port = helper.make_tensor_value_info("text", TensorProto.UINT8, ["n"])
    return json.loads(bytes(opened(library, model([node], [], [port])).run(None, {})[0]))


def opened(library, content, **settings):
    return ort.InferenceSession(
        content, options(library, **settings), providers=["CPUExecutionProvider"]
    )


def operators(names):
    for name in names:
        inputs = list(OPERATORS[name][0].inputs)
        partials = ["d" + given for given in inputs]
        yield name, name, inputs, ["y"]
        yield name, name + "ValueAndGrad", inputs, ["y", *partials]
        yield name, name + "VJP", [*inputs, "g"], partials


def run_all(library, description):
    for name, op_type, inputs, outputs in operators(description["kernels"]):
        for kind, dtype in KINDS.items():
            wide = kind if kind == TensorProto.DOUBLE else TensorProto.FLOAT
            reals = OPERATORS[name][1].reals
            alpha = [helper.make_tensor_value_info(real, wide, []) for real in reals]
            content = operator_model(op_type, [*inputs, *alpha], outputs, kind=kind)
            for instructions in description["supported"]:
                session = opened(library, content, instructions=instructions, threads=2)
                for shape in [(), (0, 3), (67,), (3, 11, 1031)]:
                    given = {
                        name: np.asarray(9 * numbers(*shape, seed=k), dtype)
                        for k, name in enumerate(inputs)
                    }
                    if alpha:
                        given["alpha"] = np.array(
                            1.5, np.float64 if wide != TensorProto.FLOAT else np.float32
                        )
                    session.run(None, given)


def refused(call, *arguments, **settings):
    try:
        call(*arguments, **settings)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions have no common class
        return str(error)
    raise AssertionError(f"{call}{arguments} was not refused")


def run_refusals(library):
    glu = opened(library, operator_model("GLU", ["a", "b"], ["y"]))
    for _ in range(20):
        refused(options, library, instructions="sse9")
        refused(opened, library, operator_model("GLU", ["a"], ["y"]))
        refused(glu.run, None, {"a": numbers(6), "b": numbers(2, 3)})
        refused(glu.run, None, {"a": numbers(*(1,) * 9), "b": numbers(1)})


def run_at_once(library):
    content = operator_model("SwiGLUSigmoidVJP", ["a", "b", "g"], ["da", "db"])
    given = {name: 20 * numbers(60_013, seed=k) for k, name in enumerate("abg")}
    shared = opened(library, content, threads=4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: shared.run(None, given), range(40)))
        list(pool.map(lambda _: opened(library, content).run(None, given), range(40)))


def main():
    library = sys.argv[1]
    description = describe(library)
    run_all(library, description)
    run_refusals(library)
    run_at_once(library)
    sys.stdout.write("all ran\n")


if __name__ == "__main__":
    main()
