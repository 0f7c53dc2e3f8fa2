"""Rewrites of activations in anyone's ONNX models: lower, fuse and swap."""
