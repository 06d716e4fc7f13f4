"""L2: the stream program: launches, event records and event waits, in host issue order.

    program async-lu
    stages 3 every 1 start 2 step 2 iterations 3 microbatches 10
    slots 3 3 3
    place 0 0 0
    update ordered mean shared all 1
    weights latest latest
    gradient
    recompute none
    aux chain
    replicas 1
    versions 1 1 1
    costs unit 1 F 1 1 1 B 2 2 2 U 0 0 0
    stream forward device 0 runs F
    warmup
      forward launch 0F0
      forward record 0F0
    body
      backward[0] wait 2F[m-2]

An event is named by the action that records it. On CUDA each line is one runtime call of the issuing thread; the
`threads` back end gives every stream its own lines. Nothing here grows with the number of microbatches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from asyncpipe.ir.action import Action, Op

__all__ = ["Instruction", "Kind", "Launch", "Program", "ProgramStream"]


class Kind(StrEnum):
    LAUNCH = "launch"
    RECORD = "record"
    WAIT = "wait"


class Instruction(NamedTuple):
    """One call: launch `action` on `stream`, record its event there, or let `stream` wait for its event."""

    kind: Kind
    stream: int
    action: Action


class Launch(NamedTuple):
    """What one stream does next: wait for the events of `waits`, run `action`, record its event if `record`."""

    action: Action
    waits: tuple[Action, ...]
    record: bool


@dataclass(frozen=True)
class ProgramStream:
    name: str
    device: int
    runs: tuple[Op, ...]
    priority: int = 0
    sms: int = 0


@dataclass(frozen=True)
class Program:
    """The whole schedule, level L2, for `microbatches` microbatches (None: endless)."""

    schedule: str
    stages: int
    every: int
    start: int
    step: int
    iterations: int | None
    microbatches: int | None
    slots: tuple[int, ...]
    place: tuple[int, ...]
    streams: tuple[ProgramStream, ...]
    warmup: tuple[Instruction, ...]
    body: tuple[Instruction, ...] = ()
    cooldown: tuple[Instruction, ...] = ()
    write: str = "ordered"
    reduce: str = "mean"
    backward_weights: str = "latest"
    forward_weights: str = "latest"
    owner: str = "shared"
    scope: str = "all"
    commit: int = 1
    gradient: tuple[str, ...] = ()
    """Transforms between a gradient and its update, in order: `shrink=1/2`, `spike`."""
    recompute: str = "none"
    recomputed: tuple[int, ...] = ()
    """The stages that `recompute` is for."""
    aux: str = "chain"
    local: tuple[int, ...] = ()
    """The stages whose gradient comes from `aux`."""
    replicas: int = 1
    sync: tuple[str, ...] = ()
    """How replicas stay together: `allreduce`, `average 16 blocking`, `push stage` or `outer 16 7/10 9/10 nesterov`."""
    versions: tuple[int, ...] = ()
    """Per stage, how many versions of its parameters are kept beside the slots' own."""
    unit: Fraction = Fraction(1)
    costs: dict[Op, tuple[int, ...]] = field(default_factory=dict)
    """Per op and stage, in ticks; one tick is `unit` of the schedule's cost unit."""

    def absolute(self, action: Action, iteration: int) -> Action:
        """A body action with its index in the given iteration."""
        return action.later(self.start + iteration * self.step, self.every)

    def instructions(self) -> Iterator[Instruction]:
        """Every instruction with absolute indices, in host issue order; endless where the program is."""
        yield from self.warmup
        iteration = 0
        while self.body and (self.iterations is None or iteration < self.iterations):
            for instruction in self.body:
                yield instruction._replace(action=self.absolute(instruction.action, iteration))
            iteration += 1
        yield from self.cooldown

    def launches(self, stream: int) -> Iterator[Launch]:
        """What one stream does, in order, with absolute indices."""
        yield from _launches(self.warmup, stream)
        body = list(_launches(self.body, stream))
        iteration = 0
        while body and (self.iterations is None or iteration < self.iterations):
            for action, waits, record in body:
                yield Launch(
                    self.absolute(action, iteration),
                    tuple(self.absolute(w, iteration) for w in waits),
                    record,
                )
            iteration += 1
        yield from _launches(self.cooldown, stream)

    @property
    def updates(self) -> int | None:
        return None if self.microbatches is None else -(-self.microbatches // self.every)

    def update_size(self, update: int) -> int:
        """How many microbatches an update applies; the last one may be short."""
        full = self.every if self.microbatches is None else self.microbatches - update * self.every
        return min(self.every, full)

    def with_costs(self, unit: Fraction, costs: dict[Op, tuple[int, ...]]) -> Program:
        """The same program under other costs: order and events stay, only times change."""
        return replace(self, unit=unit, costs=costs)

    def __str__(self) -> str:
        from asyncpipe.ir.printer import program_text

        return program_text(self)


def _launches(instructions: tuple[Instruction, ...], stream: int) -> Iterator[Launch]:
    waits: list[Action] = []
    pending: Launch | None = None
    for kind, where, action in instructions:
        if where != stream:
            continue
        if kind is Kind.RECORD:
            assert pending is not None
            pending = pending._replace(record=True)
            continue
        if pending is not None:
            yield pending
            pending = None
        if kind is Kind.WAIT:
            waits.append(action)
        else:
            pending = Launch(action, tuple(waits), False)
            waits.clear()
    if pending is not None:
        yield pending
