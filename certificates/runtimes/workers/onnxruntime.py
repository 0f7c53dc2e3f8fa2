"""ONNX Runtime of any version on CPU."""

import onnxruntime as ort


def versions():
    return {"onnxruntime": ort.__version__}


def load(path, inputs, outputs, *options):
    """Load the model; with the option ``plain``, without optimisations and in every type.

    ``plain`` runs each node as the model has it, for baselines. It needs our own environment.
    """
    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # errors are raised
    settings.intra_op_num_threads = 1  # idle threads would spin while other runtimes run
    if options == ("plain",):
        from gatewave.graphs.verify.sessions import OnnxRuntimeSession  # noqa: PLC0415 - see above

        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return OnnxRuntimeSession(_session(path, settings)).run
    session = _session(path, settings)
    return lambda arrays: dict(zip(outputs, session.run(outputs, arrays), strict=True))


def _session(path, settings):
    return ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
