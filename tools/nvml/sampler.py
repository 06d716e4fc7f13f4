"""A thread that looks at a GPU from time to time, so rarely that it costs nothing, and never stops what it watches."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Self

from asyncpipe.tools.nvml.interface import Gpu
from asyncpipe.tools.nvml.readings import GpuSnapshot, Unavailable
from asyncpipe.tools.nvml.statistics import GpuWindow, summarize

__all__ = ["Polling", "Sampler", "SamplerCost", "warn_on_stderr"]

SHORTEST_PERIOD = 0.2
"""Seconds. A poller every 25 ms held the driver's lock two thirds of the time (MangoHud issue 2104)."""
_LONGEST_PERIOD = 30.0
_KEPT = 20_000
"""Snapshots: 2.8 hours at the default period; older ones are forgotten."""


@dataclass(frozen=True)
class SamplerCost:
    """What the sampler itself cost: seconds inside NVML of all seconds that it ran."""

    calls: int
    seconds: float
    wall_seconds: float

    @property
    def share(self) -> float:
        return self.seconds / self.wall_seconds if self.wall_seconds else 0.0

    def document(self) -> dict[str, Any]:
        return {"snapshots": self.calls, "seconds": self.seconds, "wall_s": self.wall_seconds, "share": self.share}


def warn_on_stderr(message: str) -> None:
    """The default of every `warn` here."""
    print(f"warning: {message}", file=sys.stderr)


class Polling:
    """What the sampler does at each look, without its thread: `look` returns the seconds until the next one.

    After a look in which something failed that may come back, the next one is twice as late, up to 30 s. A GPU that
    is lost, or has nothing to read, is not asked again (None). `warn` is called at most once, with the first reason.
    """

    def __init__(
        self,
        gpu: Gpu,
        period: float,
        warn: Callable[[str], None] = warn_on_stderr,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._gpu, self._period, self._clock = gpu, max(period, SHORTEST_PERIOD), clock
        self._delay = self._period
        self._warn: Callable[[str], None] | None = warn
        self._snapshots: deque[GpuSnapshot] = deque(maxlen=_KEPT)
        self._calls, self._seconds, self._begin = 0, 0.0, clock()
        self._lock = threading.Lock()

    def look(self) -> float | None:
        """Read the GPU once."""
        begin = self._clock()
        snapshot = self._gpu.read()
        with self._lock:
            self._calls += 1
            self._seconds += self._clock() - begin
            self._snapshots.append(snapshot)
        return self._next_delay(snapshot)

    def warn(self, message: str) -> None:
        """Say it, if it is the first."""
        warn, self._warn = self._warn, None
        if warn is not None:
            warn(message)

    def snapshots(self) -> Sequence[GpuSnapshot]:
        """What was seen so far, oldest first; for any thread."""
        with self._lock:
            return list(self._snapshots)

    def cost(self, end: float) -> SamplerCost:
        """What the looks took until `end`; for any thread."""
        with self._lock:
            return SamplerCost(self._calls, self._seconds, end - self._begin)

    def _next_delay(self, snapshot: GpuSnapshot) -> float | None:
        readings = [getattr(snapshot, field.name) for field in fields(snapshot)]
        unread = [reading for reading in readings if isinstance(reading, Unavailable)]
        failed = [reading.reason for reading in unread if reading.when == "failed"]
        device = f"cuda:{self._gpu.description.ordinal}"
        nothing = len(unread) == len(readings) - 1 and all(reading.when == "never" for reading in unread)
        if self._gpu.is_lost or nothing:  # nothing but the time
            self.warn(f"no readings of {device}: {unread[0].reason}")
            return None
        if failed:
            self.warn(f"a reading of {device} failed: {failed[0]}")
        self._delay = min(self._delay * 2, _LONGEST_PERIOD) if failed else self._period
        return self._delay


class Sampler:
    """Look at `gpu` every `period` seconds (0.2 or more) while the block runs, and once at its end.

    Only an error of the block itself leaves it: whatever goes wrong here ends the sampling, with one warning.
    """

    def __init__(self, gpu: Gpu, period: float = 0.5, warn: Callable[[str], None] = warn_on_stderr) -> None:
        self._polling = Polling(gpu, period, warn)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="asyncpipe-nvml", daemon=True)
        self._begin = time.perf_counter()
        self._end: float | None = None

    def __enter__(self) -> Self:
        self._begin = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._end = time.perf_counter()

    @property
    def snapshots(self) -> Sequence[GpuSnapshot]:
        """What was seen so far, oldest first."""
        return self._polling.snapshots()

    @property
    def cost(self) -> SamplerCost:
        """What the looks have taken so far."""
        return self._polling.cost(self._now)

    def window(self, begin: float | None = None, end: float | None = None) -> GpuWindow:
        """The snapshots between two moments of `time.perf_counter`; by default all of the block so far."""
        first = self._begin if begin is None else begin
        return summarize(self.snapshots, first, self._now if end is None else end)

    @property
    def _now(self) -> float:
        return time.perf_counter() if self._end is None else self._end

    def _run(self) -> None:
        try:
            delay = self._polling.look()
            while delay is not None and not self._stop.wait(delay):
                delay = self._polling.look()
            if delay is not None:
                self._polling.look()
        except Exception as error:  # telemetry never stops training
            self._polling.warn(f"no more readings of the GPU: {type(error).__name__}: {error}")
