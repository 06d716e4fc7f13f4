"""What a steady run holds at most: microbatches in flight and versions of parameters per stage, both per device.

A stage holds the activations of a microbatch from the start of its forward to the end of its backward; where they are
recomputed, its input until the recompute starts (nothing, if the stage is inverted).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asyncpipe.analysis.measured_staleness import StageVersions
from asyncpipe.analysis.moments import Moment
from asyncpipe.analysis.steady import SteadyRun, Window
from asyncpipe.ir import Op

__all__ = ["DeviceMemory", "Memory", "StageSizes", "memory"]

_BEFORE_ALL: Moment = (-1, 0, 0)


@dataclass(frozen=True)
class StageSizes:
    """Bytes of one stage: its parameters once, and for one microbatch its input and what it keeps for its backward."""

    parameters: int
    input: int
    activations: int


@dataclass(frozen=True)
class DeviceMemory:
    """The peaks of one device: in bytes, or without sizes in microbatches and versions of a stage."""

    device: int
    activations: int
    parameters: int


@dataclass(frozen=True)
class Memory:
    """Per stage and per device of one replica, at most, in the steady state."""

    in_flight: tuple[int, ...]
    versions: tuple[int, ...]
    devices: tuple[DeviceMemory, ...]
    in_bytes: bool


class Holding(NamedTuple):
    """Something that is held from one moment to another."""

    begin: Moment
    end: Moment
    device: int
    size: int


def memory(runs: Sequence[SteadyRun], sizes: Sequence[StageSizes] | None = None) -> Memory:
    """The largest figures among the classes of replicas."""
    found = [_memory(run, sizes) for run in runs]
    devices = [
        DeviceMemory(each[0].device, max(d.activations for d in each), max(d.parameters for d in each))
        for each in zip(*(m.devices for m in found), strict=True)
    ]
    in_flight = tuple(map(max, zip(*(m.in_flight for m in found), strict=True)))
    versions = tuple(map(max, zip(*(m.versions for m in found), strict=True)))
    return Memory(in_flight, versions, tuple(devices), sizes is not None)


def _memory(run: SteadyRun, sizes: Sequence[StageSizes] | None) -> Memory:
    program = run.graph.program
    stages = [_Stage(run, s, StageSizes(1, 0, 1) if sizes is None else sizes[s]) for s in range(program.stages)]
    activations = [list(stage.activations()) for stage in stages]
    versions = [list(stage.versions()) for stage in stages]
    devices = sorted({stream.device for stream in program.streams})
    return Memory(
        tuple(_peak([h._replace(size=1) for h in stage.in_flight()], run.window) for stage in stages),
        tuple(_peak([h._replace(size=1) for h in held], run.window) for held in versions),
        tuple(
            DeviceMemory(
                device,
                _peak([h for held in activations for h in held if h.device == device], run.window),
                _peak([h for held in versions for h in held if h.device == device], run.window),
            )
            for device in devices
        ),
        sizes is not None,
    )


def _peak(holdings: Sequence[Holding], window: Window) -> int:
    """The most that is held at once inside the window; what ends at a moment is gone before something begins."""
    changes = [(h.begin, 1, h.size) for h in holdings] + [(h.end, 0, -h.size) for h in holdings]
    level = peak = 0
    inside = False
    for moment, _, change in sorted(changes):
        if not inside and moment[0] >= window.begin:
            inside, peak = True, level
        if moment[0] >= window.end:
            break
        level += change
        if inside:
            peak = max(peak, level)
    return peak


class _Stage:
    def __init__(self, run: SteadyRun, stage: int, sizes: StageSizes) -> None:
        self.run = run
        self.stage = stage
        self.sizes = sizes
        self.graph = run.graph
        self.program = run.graph.program
        self.forwards = run.graph.numbers[Op.F, stage]
        self.after_all: Moment = (run.window.end, 0, 0)

    def _end_of(self, launch: int | None) -> Moment:
        return self.after_all if launch is None else self.run.moments.end(launch)

    def _gradient(self, microbatch: int, ops: tuple[Op, ...] = (Op.B, Op.W)) -> int | None:
        """What ends the backward of a microbatch here; where it does not come so far down, at the stage above."""
        highest = self.stage if self.program.scope == "all" else self.program.stages - 1
        for stage in range(self.stage, highest + 1):
            for op in ops:
                if (found := self.graph.numbers.get((op, stage), {}).get(microbatch)) is not None:
                    return found
        return None

    def _device(self, launch: int) -> int:
        return self.program.streams[self.graph.stream[launch]].device

    def _device_of_backward(self, microbatch: int) -> int:
        """Streams take microbatches in turn, so that one whose backward is not there yet has that of a step before."""
        launches = (self._gradient(m, (Op.B, Op.I)) for m in range(microbatch, -1, -self.program.step))
        return self._device(next(launch for launch in launches if launch is not None))

    def in_flight(self) -> Iterator[Holding]:
        for microbatch, launch in self.forwards.items():
            yield Holding(self.run.moments.start(launch), self._end_of(self._gradient(microbatch)), 0, 1)

    def activations(self) -> Iterator[Holding]:
        """Of each microbatch, on the device of its forward, and after a transfer on that of its backward."""
        sent = self.graph.numbers.get((Op.SEND_A, self.stage), {})
        for microbatch, forward in self.forwards.items():
            begin, end = self.run.moments.start(forward), self._end_of(self._gradient(microbatch))
            if (transfer := sent.get(microbatch)) is None:
                yield from self._kept(microbatch, begin, end, self._device(forward))
                continue
            yield from self._kept(microbatch, begin, self._end_of(transfer), self._device(forward))
            begin, device = self.run.moments.start(transfer), self._device_of_backward(microbatch)
            yield from self._kept(microbatch, begin, end, device)

    def _kept(self, microbatch: int, begin: Moment, end: Moment, device: int) -> Iterator[Holding]:
        if self.stage not in self.program.recomputed:
            yield Holding(begin, end, device, self.sizes.activations)
            return
        again = self.graph.numbers.get((Op.R, self.stage), {}).get(microbatch)
        backward = self._gradient(microbatch, (Op.B, Op.I)) if again is None else again
        start = self.after_all if backward is None else self.run.moments.start(backward)
        if self.program.recompute == "full":
            yield Holding(begin, end, device, self.sizes.input)
        if start < end:
            yield Holding(max(begin, start), end, device, self.sizes.activations)

    def versions(self) -> Iterator[Holding]:
        """Each version from its update on until it is replaced and nothing reads it any more, and further copies."""
        device = self.program.place[self.stage]
        for begin, end in self._lives():
            yield Holding(begin, end, device, self.sizes.parameters)
        copies = (self.program.forward_weights == "predict") + self.program.backward_weights.startswith("ema")
        for _ in range(copies):
            yield Holding(_BEFORE_ALL, self.after_all, device, self.sizes.parameters)
        if self.program.backward_weights == "private":
            streams = {self.graph.stream[n] for op in (Op.B, Op.I) for n in self._launches(op)}
            for stream in streams:
                yield Holding(_BEFORE_ALL, self.after_all, self.program.streams[stream].device, self.sizes.parameters)

    def _launches(self, op: Op) -> list[int]:
        return list(self.graph.numbers.get((op, self.stage), {}).values())

    def _lives(self) -> list[tuple[Moment, Moment]]:
        reads = StageVersions(self.run, self.stage)
        lives = list(zip([_BEFORE_ALL, *reads.writes], [*reads.writes, self.after_all], strict=True))
        stashed, lagging = self.program.backward_weights == "same", reads.lag is not None
        for microbatch, forward in self.forwards.items() if stashed or lagging else ():
            version = reads.read_by_forward(microbatch)
            last = self._gradient(microbatch, (Op.B, Op.I)) if stashed else forward
            if version < len(lives):
                begin, end = lives[version]
                lives[version] = (begin, max(end, self._end_of(last)))
        return lives
