"""Runtimes of ONNX models, each in an environment of its own: what certificates are made with.

Their dependencies conflict, and some crash: so each runs in a process, by an adapter of a few lines
in `workers`, in an environment that is made from our own pinned list in `requirements`.
"""
