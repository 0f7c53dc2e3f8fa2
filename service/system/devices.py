"""Choices of the device and of the kernels, as settings and messages name them.

They are apart from `gatewave.service.settings`, because importing pydantic-settings takes 0.1 of
the 0.6 seconds of processor time in which a process that tries or computes a model starts.
"""

from __future__ import annotations

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]
KernelMode = Literal["auto", "native", "function"]
