"""The streams of a program on real devices, and how tensors cross from one device to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from asyncpipe.ir import TRANSFERS, Kind, Op, Program, ProgramStream
from asyncpipe.runtime.cuda.api import Cuda, Stream
from asyncpipe.runtime.cuda.sharing import streams_with_shares

__all__ = ["Crossing", "DeviceStreams", "Landing", "lessons_across", "make_streams", "target_of"]


@dataclass(frozen=True)
class DeviceStreams:
    """Stream i of replica r is all[r * (streams of the program) + i]. devices: by number, the real device.

    landings: by copy stream, a stream of its own on the device that it copies to, where its copies are allocated; none
    where one device holds all logical ones. No other work is there that a transfer would wait for. lessons: by stream
    and stage, the same for backwards that teach the predictor of a stage on another device; lessons run there.
    """

    all: tuple[Stream, ...]
    devices: tuple[int, ...]
    landings: Mapping[int, int] = field(default_factory=dict)
    lessons: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @property
    def used(self) -> list[int]:
        """The real devices."""
        return sorted(set(self.devices))

    def on_device(self, device: int) -> list[int]:
        """The numbers of its streams, without landings."""
        landings = {*self.landings.values(), *self.lessons.values()}
        return [number for number, on in enumerate(self.devices) if on == device and number not in landings]

    def first_on(self, device: int) -> int:
        """Its stream that launches graphs, and that others fork from."""
        return self.on_device(device)[0]


def make_streams(cuda: Cuda, program: Program, real: Sequence[int]) -> DeviceStreams:
    """`real`: the device of each logical one."""
    count = len(program.streams)
    devices = [real[stream.device] for _ in range(program.replicas) for stream in program.streams]
    streams = streams_with_shares(cuda, program, real)
    if len(set(real)) == 1:
        return DeviceStreams(tuple(streams), tuple(devices))

    def landing(logical: int) -> int:
        devices.append(real[logical])
        streams.append(cuda.stream(devices[-1]))
        return len(streams) - 1

    copying = [number for number in range(len(streams)) if program.streams[number % count].runs == TRANSFERS]
    landings = {number: landing(target_of(program.streams[number % count])) for number in copying}
    lessons = {
        (replica * count + stream, stage): landing(program.place[stage])
        for replica in range(program.replicas)
        for stream, stage in lessons_across(program, real)
    }
    return DeviceStreams(tuple(streams), tuple(devices), landings, lessons)


def target_of(stream: ProgramStream) -> int:
    """The logical device that a copy stream leads to. The compiler names it by its route: `copy[0->1]`."""
    return int(stream.name.removesuffix("]").partition("->")[2])


def lessons_across(program: Program, real: Sequence[int]) -> list[tuple[int, int]]:
    """(stream, stage) of backwards of the stage above that teach the predictor of the stage on another device."""
    if program.aux != "synthetic":
        return []
    lines = (*program.warmup, *program.body, *program.cooldown)
    taught = {
        (line.stream, line.action.stage - 1)
        for line in lines
        if line.kind is Kind.LAUNCH and line.action.op in (Op.B, Op.I) and line.action.stage - 1 in program.local
    }
    devices = [real[stream.device] for stream in program.streams]
    return sorted((stream, stage) for stream, stage in taught if devices[stream] != real[program.place[stage]])


@dataclass(frozen=True)
class Landing:
    """Where tensors arrive on another device: from a stream, on a stream of its own."""

    cuda: Cuda
    source: Stream
    stream: Stream
    device: int

    def place(self, tensor: Tensor) -> Tensor:
        """Memory for a copy."""
        with self.running():
            return torch.empty_like(tensor, device=self.cuda.torch_device(self.device))

    def into(self, place: Tensor, tensor: Tensor) -> None:
        """A copy to memory that is there already."""
        self.cuda.transfer(place, tensor, self.source, self.stream)

    def copy(self, tensor: Tensor) -> Tensor:
        """A copy, issued on the source."""
        place = self.place(tensor)
        self.into(place, tensor)
        return place

    def running(self) -> AbstractContextManager[None]:
        """What is launched within it comes after all copies so far, and before later ones."""
        return self.cuda.on(self.stream)


@dataclass(frozen=True)
class Crossing:
    """The ways of one replica between devices; `first` is the number of its first stream."""

    cuda: Cuda
    streams: DeviceStreams
    first: int

    def landing(self, stream: int) -> Landing:
        """Of a copy stream of the program."""
        at = self.first + stream
        return self._landing(at, self.streams.landings[at])

    def lesson(self, stream: int, stage: int) -> Landing | None:
        """Where a backward on a stream teaches the predictor of a stage; None for its own device."""
        landing = self.streams.lessons.get((self.first + stream, stage))
        return None if landing is None else self._landing(self.first + stream, landing)

    def _landing(self, at: int, landing: int) -> Landing:
        streams = self.streams
        return Landing(self.cuda, streams.all[at], streams.all[landing], streams.devices[landing])
