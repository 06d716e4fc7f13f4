"""The one interface to NVML, and what stands in its place where there is no NVML."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any, Protocol, Self

from asyncpipe.tools.nvml.readings import GpuDescription, GpuProcess, GpuSnapshot, Reading, Unavailable

__all__ = ["Gpu", "MissingGpu", "MissingNvml", "Nvml"]


class Gpu(Protocol):
    """One device that CUDA sees. No method raises; what cannot be read is `Unavailable`."""

    @property
    def description(self) -> GpuDescription:
        """Name, UUID, limits, versions."""

    @property
    def is_lost(self) -> bool:
        """Whether the GPU fell off the bus: it is not asked any more."""

    def read(self) -> GpuSnapshot:
        """Look once, from one thread at a time. GPM's are means since the last call, and unavailable in the first."""

    def other_processes(self) -> Reading[tuple[GpuProcess, ...]]:
        """The processes that compute on this GPU, without this one. Slow: ask once, before this program uses CUDA.

        Inside a container this process has another number, so that later it would count itself.
        """


class Nvml(Protocol):
    """The devices by CUDA's ordinal; a context manager, which ends the connection."""

    @property
    def missing(self) -> Unavailable | None:
        """Why there is no NVML; None where there is."""

    @property
    def gpus(self) -> Sequence[Gpu]:
        """The devices that CUDA sees, in its order."""

    def gpu(self, ordinal: int) -> Gpu:
        """The device cuda:`ordinal`; one whose readings are all unavailable where NVML knows none."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class MissingGpu:
    """A device of which nothing can be read, for one reason."""

    def __init__(self, ordinal: int, reason: Unavailable) -> None:
        self._reason = reason
        unknown: dict[str, Any] = dict.fromkeys((field.name for field in fields(GpuDescription)), reason)
        self.description = GpuDescription(**{**unknown, "ordinal": ordinal, "is_mig_instance": False})

    @property
    def is_lost(self) -> bool:
        return False

    def read(self) -> GpuSnapshot:
        unknown: dict[str, Any] = dict.fromkeys((field.name for field in fields(GpuSnapshot)), self._reason)
        return GpuSnapshot(**{**unknown, "time": time.perf_counter()})

    def other_processes(self) -> Reading[tuple[GpuProcess, ...]]:
        return self._reason


class MissingNvml:
    """A machine without NVML: no devices, and the reason."""

    def __init__(self, reason: str) -> None:
        self.missing = Unavailable(reason)
        self.gpus: Sequence[Gpu] = ()

    def gpu(self, ordinal: int) -> Gpu:
        return MissingGpu(ordinal, self.missing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """There is nothing to end."""
