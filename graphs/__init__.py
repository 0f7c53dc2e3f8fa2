"""Anyone's ONNX graphs: read, recognise, rewrite, compare."""
