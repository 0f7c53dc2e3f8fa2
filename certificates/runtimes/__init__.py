"""Runtimes of ONNX models for certificates, each in an environment of its own.

Their dependencies conflict, and some crash. Each runs in a process, by an adapter of a few lines
in `workers`, in an environment that is made from our own pinned list in `requirements`.
"""
