"""ONNX Runtime, its native kernels, and ONNX files."""
