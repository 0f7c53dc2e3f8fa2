"""Runner of models with the ONNX Runtime of its environment; it also needs NumPy.

    python runs.py LIBRARY FOLDER

The other environment writes the folder. It contains for each case `NAME.onnx`, an activation with
its function body; `NAME.bare.onnx`, the same without the body, with output shapes to be inferred;
and `NAME.npz`, its inputs and, in order, its outputs. The folder `refused` has models that must
not run, with their inputs. The folder `shapes` has models that return the shape of a kernel's
result for a [2, 3] tensor. The results are written to stdout as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

LIBRARY, FOLDER = sys.argv[1], Path(sys.argv[2])


def main():
    try:
        session_options()
    except Exception as error:  # noqa: BLE001 - that is the answer, whatever its class
        report = {"error": told(error)}
    else:
        cases = sorted(FOLDER.glob("*.npz"))
        report = {
            "cases": {path.stem: case(path) for path in cases},
            "refused": {path.stem: refusal(path) for path in FOLDER.glob("refused/*.npz")},
            "shapes": {path.stem: shape(path) for path in FOLDER.glob("shapes/*.onnx")},
        }
    json.dump({"version": ort.__version__, **report}, sys.stdout)


def session_options():
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = 2
    options.register_custom_ops_library(LIBRARY)
    return options


def case(path):
    inputs, wanted = arrays(path)
    profiled = session_options()
    profiled.enable_profiling = True
    profiled.profile_file_prefix = f"{path.stem}.profile"
    with_body = session(path.with_suffix(".onnx"), profiled)
    # An artifact declares one axis; the other model, two.
    flat = {name: array.ravel() for name, array in inputs.items()}
    found = [array.reshape(-1, 2) for array in with_body.run(None, flat)]
    events = json.loads(Path(with_body.end_profiling()).read_text())
    bare = session(path.with_suffix(".bare.onnx"), session_options())
    return {
        "ran": sorted({e["args"]["op_name"] for e in events if e.get("cat") == "Node"}),
        "is_equal": all(map(is_equal, found, wanted)),
        "is_equal_without_body": all(map(is_equal, bare.run(None, inputs), wanted)),
        "inferred": [output.shape for output in bare.get_outputs()],
    }


def refusal(path):
    inputs, _ = arrays(path)
    try:
        session(path.with_suffix(".onnx"), session_options()).run(None, inputs)
    except Exception as error:  # noqa: BLE001 - that is the answer, whatever its class
        return told(error)
    return None


def shape(path):
    (found,) = session(path, session_options()).run(None, {"x": np.ones((2, 3), np.float32)})
    return found.tolist()


def arrays(path):
    with np.load(path) as stored:
        inputs = {n[3:]: stored[n] for n in stored.files if n.startswith("in:")}
        return inputs, [stored[n] for n in stored.files if n.startswith("out:")]


def session(path, options):
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def is_equal(found, wanted):
    """Return True if all bits are equal, except for the payloads of NaN."""
    numbers = ~np.isnan(wanted)
    return (
        found.dtype == wanted.dtype
        and np.array_equal(found, wanted, equal_nan=True)
        and np.array_equal(np.signbit(found[numbers]), np.signbit(wanted[numbers]))
    )


def told(error):
    return f"{type(error).__module__}.{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
