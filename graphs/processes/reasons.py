"""Extraction of the full reason from an error of a runtime or library, in one line.

OpenVINO puts places in its source before the reason, a line each; ONNX Runtime puts the signature
of a C++ function before it; Rust puts a hint for developers after it. A first line, a last line or
a fixed number of characters therefore loses the reason: only noise that is recognised is removed.
"""

from __future__ import annotations

import re

COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

SOURCE = re.compile(
    r"(?:Exception from |\bat )?(?<![\w/.+@-])/?(?:[\w.+@-]+/)*[\w.+-]+"
    r"\.(?:cc|cpp|cxx|cu|cuh|h|hpp|rs):\d+(?::\d+)?(?:: |:$|(?= |$))",
    re.MULTILINE,
)
"""A place in compiled source: ``src/inference/src/cpp/core.cpp:84:``."""

SIGNATURE = re.compile(r"\s*[\w:<>,&*~ \[\]=+-]*?::[\w~<>=+\-*]+(?=\()")
"""The name of a C++ function, up to its parameters; ONNX Runtime writes it after a place."""

QUALIFIERS = re.compile(r"(?: const)?(?: \[with [^\]]*\])?")

ASSERTION = re.compile(r"\w+: Assertion `false` failed: (?=\S)")
"""ONNX's converter says this before each of its reasons."""

TRACEBACK = "Traceback (most recent call last):"
FRAME = re.compile(r"^[ \t]+at .*\(.*\)$|^[ \t]*(?:\[bt\] |#\d+ +0x).*$", re.MULTILINE)
"""A frame of a stack, as Node, TVM and LLVM print it."""

HINTS = re.compile(
    r"^note: run with `RUST_BACKTRACE=.*$|^[Ss]tack backtrace:\n[\s\S]*", re.MULTILINE
)

CRASHES = ("terminate called after", "' panicked at ", "libc++abi: ", "Fatal Python error: ")
"""First words of the message with which a process aborts itself."""

LAST_LINES = 20
"""Lines kept of the last paragraph of a process that ended without a known message."""


def reason_of(text: str) -> str:
    """Return the reason in the error ``text``, in one line; never less than the reason."""
    plain = HINTS.sub("", COLOUR.sub("", text))
    shorter = ASSERTION.sub("", FRAME.sub("", _without_places(_raised(plain))))
    return _line(shorter) or _line(plain) or "no reason is given"


def last_words(output: str) -> str:
    """Return the reason in a process's last output; empty if there is no output."""
    plain = HINTS.sub("", COLOUR.sub("", output)).strip()
    if not plain:
        return ""
    start = max(plain.rfind(words) for words in (TRACEBACK, *CRASHES))
    if start >= 0:
        return reason_of(plain[plain.rfind("\n", 0, start) + 1 :])
    paragraph = re.split(r"\n\s*\n", plain)[-1]
    return reason_of("\n".join(paragraph.splitlines()[-LAST_LINES:]))


def _raised(text: str) -> str:
    """Return the exception of the last traceback of Python in ``text``; without one, all of it."""
    before, mark, after = text.rpartition(TRACEBACK)
    if not mark:
        return text
    lines = after.splitlines()
    start = next((i for i, line in enumerate(lines) if line and not line[0].isspace()), None)
    if start is None:
        return text
    # A worker puts the type of an exception whose text is a traceback before it.
    prefix = before.rpartition("\n")[2]
    return "\n".join([prefix, *lines[start:]])


def _without_places(text: str) -> str:
    """Return ``text`` without places in compiled source, and the signatures after them."""
    pieces, end = [], 0
    for place in SOURCE.finditer(text):
        if place.start() < end:
            continue
        before = text[end : place.start()].rstrip()
        has_colon = not before or before[-1] in ":;" or ":" not in place.group()[-2:]
        pieces.append(before if has_colon else f"{before}:")
        end = _after_signature(text, place.end())
    return " ".join([*pieces, text[end:]]) if pieces else text


def _after_signature(text: str, start: int) -> int:
    """Return the end of the C++ signature at ``start``; ``start`` itself without a signature."""
    name = SIGNATURE.match(text, start)
    if name is None or "\n" in name.group():
        return start
    depth = 0
    for index in range(name.end(), len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if not depth:
            rest = QUALIFIERS.match(text, index + 1)
            return index + 1 if rest is None else rest.end()
    return start


def _line(text: str) -> str:
    return " ".join(text.split())
