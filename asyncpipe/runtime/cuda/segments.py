"""How a period over several devices is cut into graphs: one graph holds the calls of one device.

Two devices of a pipeline wait for each other within every period, back and forth. A graph waits for the last record
before its launch: were each device's whole period one graph, whichever was launched first would wait for records of the
period before, silently. So a device's period is cut wherever it waits for something that another device could only do
after it had heard from this one. What is launched then only ever waits for what was launched before:

* the level of a line is that of the line before it on its device, or one more than that of a line of another device, or
  of a transfer, that it waits for, or of parameters that were sent to its device before it, for which nobody waits;
* the lines of one device and level are one graph, in the order of the program, which races between them may depend on;
* graphs are launched by level, and behind those of a level its transfers, which never are part of a graph.

So every wait, of a stream or of a node, is for a record that was issued before it: there is no cycle to wait in. Queues
of the hardware that several streams share add false dependencies, and those point to earlier calls too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asyncpipe.ir import TRANSFERS, Action, Instruction, Kind, Op, Program
from asyncpipe.runtime.cuda.device_streams import target_of

__all__ = ["Plan", "Segment", "Send", "plan_of_period"]


@dataclass(frozen=True)
class Segment:
    """What one graph of a device captures."""

    device: int
    lines: tuple[Instruction, ...]


@dataclass(frozen=True)
class Send:
    """A transfer, and which actions of the period it waits for."""

    stream: int
    action: Action
    waits: tuple[Action, ...]


@dataclass(frozen=True)
class Plan:
    """`steps` in the order of their launches. remote: the waits (stream, action) for other devices, or for transfers.

    Waits for actions of earlier periods hold already: all devices meet between periods.
    """

    steps: tuple[Segment | Send, ...]
    remote: frozenset[tuple[int, Action]] = frozenset()

    @property
    def crossing(self) -> set[Action]:
        """The actions whose events are waited for from outside their graph."""
        sends = [step for step in self.steps if isinstance(step, Send)]
        waited = {action for _, action in self.remote} | {action for send in sends for action in send.waits}
        return waited | {send.action for send in sends}


def plan_of_period(program: Program, lines: Sequence[Instruction], devices: Sequence[int]) -> Plan:
    """`devices`: by stream of the program, the real one. On a single one the period is one graph, transfers and all."""
    if len(set(devices)) == 1:
        return Plan((Segment(devices[0], tuple(lines)),))
    cut = _Cut(program, devices)
    for line in lines:
        cut.add(line)
    return Plan(tuple(cut.steps()), frozenset(cut.remote))


@dataclass
class _Cut:
    program: Program
    devices: Sequence[int]
    remote: set[tuple[int, Action]] = field(default_factory=set)
    _now: dict[int, int] = field(default_factory=dict)
    """By device, the level of its last line; by copy stream, as -1 - stream, that of its last transfer."""
    _levels: dict[Action, tuple[int, int]] = field(default_factory=dict)
    """By action of this period, (where, level)."""
    _segments: dict[tuple[int, int], list[Instruction]] = field(default_factory=dict)
    """By level and device."""
    _sends: dict[int, list[Send]] = field(default_factory=dict)
    _waits: dict[int, list[Action]] = field(default_factory=dict)

    def add(self, line: Instruction) -> None:
        if self.program.streams[line.stream].runs == TRANSFERS:
            self._add_to_copies(line)
            return
        device = self.devices[line.stream]
        if line.kind is Kind.WAIT:
            self._wait(line, device)
        level = self._now.setdefault(device, 0)
        if line.kind is Kind.LAUNCH:
            self._levels[line.action] = device, level
        self._segments.setdefault((level, device), []).append(line)

    def _wait(self, line: Instruction, device: int) -> None:
        where, level = self._levels.get(line.action, (device, 0))
        if where != device:
            self.remote.add((line.stream, line.action))
            self._now[device] = max(self._now.get(device, 0), level + 1)

    def _add_to_copies(self, line: Instruction) -> None:
        kind, stream, action = line
        where = -1 - stream
        if kind is Kind.WAIT and action in self._levels:
            self._waits.setdefault(stream, []).append(action)
            self._now[where] = max(self._now.get(where, 0), self._levels[action][1])
        if kind is Kind.LAUNCH:
            level = self._now[where] = max(self._now.get(where, 0), self._level_of_readers(stream, action))
            self._levels[action] = where, level
            send = Send(stream, action, tuple(self._waits.pop(stream, ())))
            self._sends.setdefault(level, []).append(send)
            if action.op is Op.SEND_U:
                self._now[self._target(stream)] = level + 1

    def _level_of_readers(self, stream: int, action: Action) -> int:
        """Parameters arrive behind what the program has before them on their device."""
        return self._now.get(self._target(stream), 0) if action.op is Op.SEND_U else 0

    def _target(self, stream: int) -> int:
        """The real device that a copy stream leads to."""
        logical = target_of(self.program.streams[stream])
        return next(d for d, other in zip(self.devices, self.program.streams, strict=True) if other.device == logical)

    def steps(self) -> list[Segment | Send]:
        found: list[Segment | Send] = []
        for level in range(1 + max(self._now.values())):
            of_level = sorted((device, lines) for (at, device), lines in self._segments.items() if at == level)
            found += [Segment(device, tuple(lines)) for device, lines in of_level]
            found += self._sends.get(level, [])
        return found
