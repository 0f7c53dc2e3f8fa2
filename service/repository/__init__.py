"""Model repository: the operator's ONNX models, tried in separate processes before they are served.

    <repository>/<name>/<version>/model.onnx    with the files of its external data
    <repository>/<name>/config.yaml             optional; see `config`

The folder is untrusted: its names, links, configurations and graphs are checked. `onnx_file` reads
the bytes of a graph and finds the files that it refers to. `trial` loads and runs the graph in a
process that may crash. The serving process opens only versions that passed; `isolation` computes
graphs that may crash later in processes of their own.
"""
