"""The measured timeline of a run on GPUs: stamps of their clocks become seconds since the run began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from asyncpipe.ir import DeviceClock, Program, TimedAction, TimedRun
from asyncpipe.kernels.stamps.rows import Stamp
from asyncpipe.runtime.cuda.api import Cuda
from asyncpipe.runtime.cuda.clocks import Comparison, compare
from asyncpipe.runtime.cuda.device_streams import DeviceStreams
from asyncpipe.runtime.cuda.stamps import Stamped

__all__ = ["DeviceTimeline"]


@dataclass
class DeviceTimeline:
    """One run. Of several devices the clocks are compared before and after it, and run evenly in between."""

    program: Program
    devices: Sequence[int] = ()
    clock: DeviceClock | None = None
    _begins: dict[int, Comparison] = field(init=False, default_factory=dict)
    _ends: dict[int, Comparison] = field(init=False, default_factory=dict)
    _rows: list[tuple[Stamped, Stamp, Stamp]] = field(init=False, default_factory=list)

    def begin(self, cuda: Cuda, streams: DeviceStreams, clock: DeviceClock) -> None:
        """Before the first action, while the devices are idle."""
        self.devices, self.clock = streams.devices, clock
        self._begins = _compared(cuda, streams)

    def end(self, cuda: Cuda, streams: DeviceStreams) -> None:
        """After the last one."""
        if len(streams.used) > 1:
            self._ends = _compared(cuda, streams)

    def arrived(self, stamped: Stamped, first: Stamp, last: Stamp) -> None:
        self._rows.append((stamped, first, last))

    @property
    def timed_run(self) -> TimedRun:
        """What has arrived so far, in the order in which it ended."""
        rows = sorted(self._timed(), key=lambda row: row[0].end)
        return TimedRun(self.program, [timed for timed, _ in rows], self._known_clock, [places for _, places in rows])

    def _timed(self) -> Iterator[tuple[TimedAction, tuple[int, int]]]:
        for (replica, stream, action, at), first, last in self._rows:
            begin, end = (self._seconds(self.devices[at], stamp.nanoseconds) for stamp in (first, last))
            timed = TimedAction(replica, stream, action, begin, end, at)
            yield timed, (first.multiprocessor, last.multiprocessor)

    def _seconds(self, device: int, nanoseconds: int) -> float:
        """Since the host compared the last clock before the run."""
        first = self._begins[device]
        passed = (nanoseconds - first.device) * self._pace(device)
        return (first.host - max(one.host for one in self._begins.values()) + passed) / 1e9

    def _pace(self, device: int) -> float:
        """Nanoseconds of the host in one of the device; 1 where nothing else must agree with it."""
        first, last = self._begins[device], self._ends.get(device)
        return 1.0 if last is None else (last.host - first.host) / (last.device - first.device)

    @property
    def _known_clock(self) -> DeviceClock | None:
        if self.clock is None or len(self._begins) < 2:
            return self.clock
        within = sorted(self._within(device) for device in self._begins)
        return replace(self.clock, between_devices=sum(within[-2:]) / 1e9)

    def _within(self, device: int) -> float:
        return max(of[device].within for of in (self._begins, self._ends) if device in of)


def _compared(cuda: Cuda, streams: DeviceStreams) -> dict[int, Comparison]:
    return {device: compare(cuda, streams.all[streams.first_on(device)], device) for device in streams.used}
