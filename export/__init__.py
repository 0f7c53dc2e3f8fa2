"""From activation records to certified ONNX artifacts."""
