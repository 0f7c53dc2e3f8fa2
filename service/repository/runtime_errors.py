"""Errors of ONNX Runtime, as one line for operators and callers."""

from __future__ import annotations

import re

from gatewave.service.onnx.arena import is_of_memory
from gatewave.service.quoting import abridged

MAX_LENGTH = 1 << 13
"""Limit in characters: usual errors have hundreds, but names in a hostile graph have no limit."""

PREFIX = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
SOURCE = re.compile(
    r"/\S+\.(?:cc|h|cu|cuh):\d+(?: [\w:<>,&*~ ]*::[\w~]+\(.*?\)(?: const)?(?= |$))?"
)
"""Position in ONNX Runtime's source, with the C++ function there."""
NODE = re.compile(r"Non-zero status code returned while running (\S+) node\..*?Status Message: ?")
PATH = re.compile(r"(?:/[^\s/:\"']+){2,}")


def message_of(error: BaseException) -> str:
    """Return the message of an error of ONNX Runtime in one line.

    Positions in its source and paths on this machine are removed: callers see the message.
    """
    text = str(error)
    if is_of_memory(error):
        return "it needs more memory than all models may use (GATEWAVE_ARENA_BYTES)"
    text = NODE.sub(r"\1: ", PREFIX.sub("", text))
    text = PATH.sub("…", SOURCE.sub("", text))
    text = " ".join(text.split()) or type(error).__name__
    return abridged(text, MAX_LENGTH)
