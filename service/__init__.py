"""The HTTP and gRPC service: it reads the artifacts, and imports neither Torch nor `export`."""
