"""Tensors as they travel: nested lists of JSON numbers, and safetensors files."""
