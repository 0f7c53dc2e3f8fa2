"""Engine that opens graphs in ONNX Runtime, with one device, thread pool and arena per process."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from gatewave.service.codecs.datatypes import Array
from gatewave.service.errors import ArtifactInvalid, DeviceUnavailable
from gatewave.service.onnx.kernels import NO_KERNELS, Kernels
from gatewave.service.onnx.session import CPU, CUDA
from gatewave.service.system import cpus
from gatewave.service.system.devices import Device, KernelMode

LIBRARIES = {CPU: "libgatewave.so", CUDA: "libgatewave_cuda.so"}
"""File names of the native kernels, by provider."""
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
ONLY_FATAL = 4
"""ONNX Runtime's log severity: errors are raised as exceptions anyway."""

ARENA_BYTES = 1 << 30
SAME_AS_REQUESTED = 1
"""ONNX Runtime's ``kSameAsRequested``: the arena grows by the requested size, not by doubling."""

FOLDER = Path(__file__).parents[1]
"""Folder of the libraries, if they were built."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Engine:
    """Device on which graphs are computed, with its threads and native kernels.

    Attributes:
        provider: ONNX Runtime's execution provider.
        threads: Number of threads that a graph may use.
        kernels: The native kernels.
    """

    provider: str
    threads: int
    kernels: Kernels

    @classmethod
    def start(
        cls,
        device: Device = "auto",
        threads: int = 0,
        arena_bytes: int = ARENA_BYTES,
        *,
        kernels: KernelMode = "auto",
        instructions: str = "",
    ) -> Engine:
        """Choose the device, size the thread pool, bound the memory, and load the kernels.

        Raises:
            DeviceUnavailable: ``device`` is ``cuda``, which does not work.
            KernelsUnavailable: ``kernels`` is ``native``, and they do not work.
            SettingsInvalid: The kernels do not have these ``instructions``, or are not used.
        """
        return cls._on(device, threads, arena_bytes).using(kernels, instructions)

    @classmethod
    def _on(cls, device: Device, threads: int, arena_bytes: int) -> Engine:
        ort.disable_telemetry_events()  # since 1.29 it reports to Microsoft by default
        threads = _shared_pool(threads or cpus.available())
        _shared_arena(arena_bytes)
        if device == "cpu":
            return cls(CPU, threads, NO_KERNELS)
        engine = cls(CUDA, threads, NO_KERNELS)
        try:
            engine.verify()
        except DeviceUnavailable as error:
            if device == "cuda":
                raise
            log.info("CUDA is not used", extra={"reason": str(error)})
            return cls(CPU, threads, NO_KERNELS)
        return engine

    def using(self, kernels: KernelMode, instructions: str = "") -> Engine:
        """Return a copy with the kernels for its provider.

        Raises:
            KernelsUnavailable: ``kernels`` is ``native``, and they do not work.
            SettingsInvalid: The kernels do not have these ``instructions``, or are not used.
        """
        path = FOLDER / LIBRARIES[self.provider]
        found = Kernels.find(path, kernels, instructions, self.options, self._providers())
        return replace(self, kernels=found)

    def verify(self) -> None:
        """Check that the device computes: the CUDA provider also loads without a working driver.

        Raises:
            DeviceUnavailable: The run failed, or ONNX Runtime chose another provider.
        """
        if self.provider not in ort.get_available_providers():
            msg = (
                f"this onnxruntime {ort.__version__} has no {self.provider}: "
                "install 'gatewave[gpu]' and uninstall onnxruntime, or set GATEWAVE_DEVICE=cpu"
            )
            raise DeviceUnavailable(msg)
        if self.provider == CUDA:
            ort.preload_dlls()
        try:
            session = self._open(CANARY, NONE_OF_OURS)
            (doubled,) = session.run(None, {"x": np.array([1.5], np.float32)})
        except Exception as error:
            msg = f"{self.provider} fails on one addition: {error}"
            raise DeviceUnavailable(msg) from error
        if session.get_providers()[0] != self.provider or doubled[0] != 3.0:  # noqa: PLR2004
            msg = f"{self.provider} was asked for, {session.get_providers()[0]} answered"
            raise DeviceUnavailable(msg)

    @property
    def arena_bytes(self) -> int:
        """Limit on the memory of all sessions together."""
        return _ARENA[0]

    def shrink(self) -> None:
        """Return unused memory of the arena to the system.

        The arena keeps freed regions, which never grow: a larger request may not fit any of them,
        although their sum would suffice.
        """
        # There is no call for this but an option of a run, so a tiny graph is run.
        options = ort.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._open(CANARY, NONE_OF_OURS).run(None, {"x": np.array([1.5], np.float32)}, options)

    def open(
        self,
        path: Path,
        model: bytes,
        operators: frozenset[str] | None = None,
        data: Mapping[str, Array] | None = None,
    ) -> tuple[ort.InferenceSession, dict[str, str]]:
        """Load the graph in ``model``, with its metadata.

        ONNX Runtime opens no file, because files that it maps into memory may be truncated later.

        Args:
            path: The file from which ``model`` was read, for errors.
            model: The bytes of the file.
            operators: The operators of Gatewave's domain in the graph, if known.
            data: The contents of the files with external data, by location.

        Raises:
            ArtifactInvalid: ONNX Runtime cannot load the graph on this device.
        """
        try:
            session = self._open(model, operators, data)
        except Exception as error:
            msg = f"{path}: ONNX Runtime {ort.__version__} cannot load it: {error}"
            raise ArtifactInvalid(msg) from error
        if session.get_providers()[0] != self.provider:
            msg = f"{path}: {self.provider} was asked for, and ONNX Runtime fell back from it"
            raise ArtifactInvalid(msg)
        return session, dict(session.get_modelmeta().custom_metadata_map)

    def _open(
        self,
        model: bytes,
        operators: frozenset[str] | None = None,
        data: Mapping[str, Array] | None = None,
    ) -> ort.InferenceSession:
        options = self.options()
        # By default, bytes may also be of ONNX Runtime's own format, which is not checked here.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Otherwise, missing external data is searched in the working directory.
        options.add_session_config_entry(EXTERNAL_FOLDER, os.devnull)
        if data:
            # ONNX Runtime copies the buffers while it creates the session.
            contents = list(data.values())
            sizes = [content.nbytes for content in contents]
            options.add_external_initializers_from_files_in_memory(list(data), contents, sizes)
        self.kernels.register(options, operators)
        session = ort.InferenceSession(model, options, providers=self._providers())
        session.disable_fallback()
        return session

    def options(self) -> ort.SessionOptions:
        """Return options for a session in this process, with its shared threads and arena."""
        options = ort.SessionOptions()
        options.log_severity_level = ONLY_FATAL
        if _POOL:
            options.use_per_session_threads = False
        else:
            options.intra_op_num_threads = self.threads
        options.add_session_config_entry("session.use_env_allocators", "1")
        return options

    def _providers(self) -> list[Any]:
        return [CPU] if self.provider == CPU else [self.provider, CPU]


_POOL: list[int] = []
"""Size of the process's thread pool, once it exists; ONNX Runtime cannot resize it."""


def _shared_pool(threads: int) -> int:
    """Create the pool that all sessions share; return its size. One thread needs no pool.

    With a shared pool, ONNX Runtime refuses sessions with their own threads in this process.
    """
    if not _POOL and threads > 1:
        ort.set_global_thread_pool_sizes(threads, 1)
        _POOL.append(threads)
    return _POOL[0] if _POOL else 1


_ARENA: list[int] = []
"""Limit of the process's arena in bytes, once it exists; ONNX Runtime cannot change it."""


def _shared_arena(most: int) -> None:
    """Create the arena that all sessions share; a run that needs more than the limit fails."""
    if not _ARENA:
        memory = ort.OrtMemoryInfo(
            "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
        )
        bounds = {"max_mem": most, "arena_extend_strategy": SAME_AS_REQUESTED}
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg(bounds))
        _ARENA.append(most)


NONE_OF_OURS: frozenset[str] = frozenset()

CANARY = (
    b'\x08\x08:<\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x06canaryZ\x10\n\x01x\x12\x0b\n\t\x08'
    b"\x01\x12\x05\n\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\x01\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\x11"
)
"""An ONNX model, opset 17: ``y = x + x`` for float32 tensors of one axis."""
