"""Activations in anyone's ONNX models: found, lowered, fused, exchanged, and proven equal."""
