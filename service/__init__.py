"""The HTTP service: it reads the artifacts, and knows nothing of Torch or of what made them."""

import os

# Since 1.29 ONNX Runtime reports to its makers unless told not to, before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
