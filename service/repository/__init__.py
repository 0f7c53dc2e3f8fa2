"""Any ONNX model that the operator puts in a folder: proved in a process of its own, then served.

    <repository>/<name>/<version>/model.onnx    and the files of its external data, beside it
    <repository>/<name>/config.yaml             if the defaults do not fit

Nothing in the folder is believed: not the names, not the links, not the graph. A graph is read as
bytes first, for the files that it would have ONNX Runtime open; a process that may crash loads and
runs it next; only what has come through that is opened by the process that serves.
"""
