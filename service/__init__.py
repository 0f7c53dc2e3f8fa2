"""The HTTP service: it reads the artifacts, and knows nothing of Torch or of what made them."""
