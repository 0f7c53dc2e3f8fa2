"""The Open Inference Protocol (KServe v2), as far as HTTP and gRPC have it in common."""
