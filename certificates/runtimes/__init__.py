"""Runtimes of ONNX models for certificates, each in an environment of its own.

Their dependencies conflict, and some crash. Each runs in a worker process, with an adapter of a few
lines in `workers`, in an environment that is made from a pinned list in `requirements`.
"""
