"""Operators of records as ONNX nodes and functions, and formulas of activations."""
