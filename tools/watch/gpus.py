"""The GPUs of a run, looked at while it is watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from asyncpipe.tools.nvml import GpuSnapshot, Nvml, Polling, open_nvml
from asyncpipe.tools.watch.state import Plan

__all__ = ["GpuLook", "RunGpus"]

_PERIOD = 0.5

Connect = Callable[[Sequence[str]], Nvml]


@dataclass(frozen=True)
class GpuLook:
    """The newest readings of cuda:`ordinal` of the run."""

    ordinal: int
    snapshot: GpuSnapshot

    def document(self) -> dict[str, Any]:
        """Null where there is none, with its reason."""
        return {"ordinal": self.ordinal, **self.snapshot.document()}


class RunGpus:
    """Connects to NVML once the plan of the run says which GPUs it has. A context manager, which ends the connection.

    They are found by UUID: for the run, or for this process, CUDA may number them otherwise.
    """

    def __init__(self, connect: Connect = open_nvml) -> None:
        self._connect = connect
        self._stack = ExitStack()
        self._polled: list[_Polled] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def looks(self, plan: Plan | None, now: float) -> list[GpuLook] | None:
        """None while it is not known which; no look is younger than half a second after the one before."""
        if plan is None:
            return None
        if self._polled is None:
            nvml = self._stack.enter_context(self._connect(plan.gpus)) if plan.gpus else None
            self._polled = [_Polled(i, nvml) for i in range(len(plan.gpus))] if nvml else []
        return [GpuLook(i, polled.newest(now)) for i, polled in enumerate(self._polled)]


class _Polled:
    """One GPU, asked when it is due: later after failures, and no more when it is lost."""

    def __init__(self, ordinal: int, nvml: Nvml) -> None:
        # The reasons stand beside the readings, so that no warning is needed.
        self._polling = Polling(nvml.gpu(ordinal), _PERIOD, warn=lambda _: None)
        self._due: float | None = float("-inf")

    def newest(self, now: float) -> GpuSnapshot:
        if self._due is not None and now >= self._due:
            delay = self._polling.look()
            self._due = None if delay is None else now + delay
        return self._polling.snapshots()[-1]
